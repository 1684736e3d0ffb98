"""The paper's data sets, as tensors on the device where training runs: `data.loading.load`."""
