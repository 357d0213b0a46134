"""What Transom tells Home Assistant, told to a real one: `make homeassistant`."""
