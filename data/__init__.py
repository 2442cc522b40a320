"""Training images: sources, labels, splits, data sets, transforms and loaders."""
