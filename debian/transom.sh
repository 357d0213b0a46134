#!/bin/sh
exec /usr/lib/transom/bin/python3 -P -m transom "$@"
