"""Files of photos: folders, patterns of paths, archives, and which of them are pictures."""
