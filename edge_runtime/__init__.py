"""The daemon: cameras in, decisions about doors and windows out."""
