"""Many devices: who runs what, a bundle's way to all of them, their events kept."""
