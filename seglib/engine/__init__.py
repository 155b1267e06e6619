"""What a training run needs beside the loop: state, checkpoints, precision, processes."""
