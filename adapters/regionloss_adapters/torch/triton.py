"""The fused CUDA path of the PyTorch loss as an adapter."""

from __future__ import annotations

import dataclasses

import torch

from regionloss.torch.triton.operators import INTERPRETED
from regionloss_adapters.protocol import Answer, CannotAnswerError, Description, Question
from regionloss_adapters.torch.fast import TorchAdapter

# If imported under Triton's interpreter, the kernels run on the host.
_DEVICE = "cpu" if INTERPRETED else "cuda"


class TorchTritonAdapter(TorchAdapter):
    """The path `triton`: on a CUDA device, or with TRITON_INTERPRET=1 in Triton's interpreter, which is slow."""

    path = "triton"

    def describe(self) -> Description:
        """As the other paths, without float64, and without bfloat16 if the interpreter would truncate to it."""
        description = super().describe()
        dtypes = ("float32", "float16") if INTERPRETED else ("float32", "float16", "bfloat16")
        where = "Triton's interpreter" if INTERPRETED else "CUDA"
        return dataclasses.replace(
            description, dtypes=dtypes, devices=(_DEVICE,), notes=(*description.notes, f"run on {where}")
        )

    def answer(self, question: Question) -> Answer:
        """Evaluate the loss on the only device that the kernels run on, whatever the question's."""
        if _DEVICE == "cuda" and not torch.cuda.is_available():
            raise CannotAnswerError(
                "the path 'triton' needs a CUDA device, or TRITON_INTERPRET=1 for Triton's interpreter"
            )
        return super().answer(dataclasses.replace(question, device=_DEVICE))
