"""Read and write sweep and run folders: claims, attempts, checkpoints, results."""
