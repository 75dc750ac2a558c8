"""What knows no GAN: errors, files, locks, memory, weights on disk, fast operations."""
