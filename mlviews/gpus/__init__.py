"""Which GPUs the machine code and PTX in installed files serve, without a GPU.

Files -> verdict: `scan` finds the libraries of a folder and their packages, `libraries` reads the device code of one,
`fatbin` the containers that hold it, `coverage` judges it for each GPU; `nvidia` has NVIDIA's tables: GPUs by name, the
driver that each CUDA needs, which packages are built for CUDA.

What else mlviews knows of GPUs:

- a recipe's ``hardware.cuda``, ``hardware.gpus`` and ``some-gpus-only``: `mlviews.recipe.model`
- CUDA builds where a recipe states CUDA, none elsewhere: `mlviews.solve.solver`
- a build refused that leaves out a GPU of its recipe: `mlviews.build`
- a module that tells of a driver that is too old: `mlviews.render.modulefile`; for images `mlviews.container.describe`
- what the checks proved on which GPU: `mlviews.smoke.records.proved_gpus`, told in words by `mlviews.release`
- this host's GPUs and driver: `mlviews.doctor`
"""
