"""What a restore will do to disks, worked out before anything is touched. Nothing here runs."""
