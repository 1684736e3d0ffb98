"""The paper's data sets as tensors on the training device: see `data.loading.load`."""
