"""Checkpoints that are whole or not there, in a folder that may be moved."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from agmm.files import written_atomically


class WholeCheckpoints(TorchCheckpointIO):
    """Write a checkpoint beside the one that it replaces, then rename it.

    Lightning writes to the system's folder of temporary files, and moves the file. From one file
    system to another that is a copy, of which a kill would leave a part.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None
    ) -> None:
        """Write the whole file, or leave what is there as it is."""
        assert storage_options is None, "only files"
        # To the memory first: to a file, torch tells a full disk as a RuntimeError.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with written_atomically(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())


class KeptCheckpoint(ModelCheckpoint):
    """Keep one file, the newest or the one of the highest score, after every round.

    Args:
        folder: The run folder, or that of the classifier.
        name: Name of the file in its ``checkpoints``.
        monitor: The score; None = the newest.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(
            dirpath=folder / "checkpoints",
            filename=name,
            monitor=monitor,
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the score of the best one, also where the folder has been moved since."""
        assert isinstance(self.dirpath, str)
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return path and str(folder / Path(path).name)

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            {**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": scores}
        )
