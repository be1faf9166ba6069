"""Which GPUs the machine code and PTX in installed files serve, without a GPU."""
