"""The teacher's weights, of four kinds.

    ema           phi <- (1 - r) phi + r theta once a rollout batch, phi_0 = theta_0
    trust_region  teacher logits = (1 - r) * those of theta_0 + r * the student's, both on the teacher's prompt
    frozen        theta_0 for the whole run
    live          the student as it stands

Every kind but `live` holds a float32 copy of the trained parameters: 4 bytes each (rank 16 on a 0.5B model:
8.8M parameters, 35 MB). `trust_region` makes two forward passes in place of one; `live` holds nothing.

One mechanism for LoRA (a second adapter) and full-parameter training (a shadow of the model): the copy is
swapped in for a forward pass and out again. PEFT's own adapter switch is not used for it, since it turns
gradients on and off and writes the teacher into the student's saved adapter. Averaging A and B apart
approximates averaging the product BA; the error is of second order in their change.
Source: arXiv:2601.20802, section 3.2; reference dp_actor.py 51-65, 132-151.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TeacherKind = Literal["ema", "trust_region", "frozen", "live"]


def make_teacher(
    model: nn.Module, kind: TeacherKind, *, ema_rate: float, trust_region_rate: float
) -> Teacher:
    """The teacher of `kind` for the parameters of `model` that require a gradient."""
    match kind:
        case "ema":
            return EmaTeacher(model, rate=ema_rate)
        case "frozen":
            return EmaTeacher(model, rate=0.0)
        case "trust_region":
            return TrustRegionTeacher(model, rate=trust_region_rate)
        case "live":
            return Teacher(model)


class Teacher:
    """The student as it stands; the other kinds build on it."""

    mixes_logits = False
    """Whether the teacher's logits are a mixture, which hidden states give only under one head."""

    def __init__(self, model: nn.Module) -> None:
        """Follow the parameters of `model` that require a gradient."""
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise ValueError(
                "the model must have trainable parameters, got none; add a LoRA adapter"
            )

    def features(self, forward: Callable[[], Tensor]) -> Tensor:
        """What `forward` yields under the teacher: hidden states before the head, or logits."""
        return forward()

    def update(self) -> None:
        """Follow the student; once a rollout batch."""

    def value_of(self, parameter: Tensor) -> Tensor:
        """The teacher's value of a parameter, in its dtype; the student's own where it is not trained."""
        return parameter.detach()

    def student(self) -> dict[str, nn.Parameter]:
        """The parameters that the teacher follows, by name."""
        return dict(self._parameters)

    def state(self) -> dict[str, Tensor]:
        """The teacher's weights by parameter name; not copies."""
        return {n: p.detach() for n, p in self._parameters.items()}

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Within the block the model computes with the teacher's weights."""
        yield

    def save(self, folder: Path) -> None:
        """Write what cannot be had from the student into `folder`."""

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""


class EmaTeacher(Teacher):
    """phi <- (1 - rate) phi + rate theta, with phi_0 = theta_0, in float32; rate 0 is a frozen teacher."""

    FILE = "teacher.safetensors"

    def __init__(self, model: nn.Module, *, rate: float) -> None:
        """Copy the parameters of `model` that require a gradient; `rate` lies in 0..1."""
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"ema_rate must lie in 0..1, got {rate}; the benchmark uses 0.05")
        super().__init__(model)
        self.rate = rate
        # float32 whatever the student's dtype: in bf16 a rate of 0.01 rounds every step away
        self._shadow = {
            n: p.detach().to(torch.float32, copy=True) for n, p in self._parameters.items()
        }

    def features(self, forward: Callable[[], Tensor]) -> Tensor:
        """What `forward` yields with the teacher's weights in place."""
        with self.weights():
            return forward()

    def update(self) -> None:
        """Move every weight by `rate` towards the student; once a rollout batch."""
        for name, parameter in self._parameters.items():
            self._shadow[name].lerp_(parameter.detach().to(torch.float32), self.rate)

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Within the block the model computes with the teacher's weights; gradients and flags stay as they are."""
        student = {name: parameter.data for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            parameter.data = self._shadow[name].to(parameter.dtype)
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = student[name]

    def value_of(self, parameter: Tensor) -> Tensor:
        """The teacher's value of a parameter, in its dtype; the student's own where it is not trained."""
        for name, tracked in self._parameters.items():
            if tracked is parameter:
                return self._shadow[name].to(parameter.dtype)
        return parameter.detach()

    def state(self) -> dict[str, Tensor]:
        """The float32 weights by parameter name; not copies."""
        return dict(self._shadow)

    def save(self, folder: Path) -> None:
        """Write the float32 weights to `folder/teacher.safetensors`."""
        save_file({n: t.contiguous() for n, t in self._shadow.items()}, folder / self.FILE)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises:
            ValueError: the file is missing or belongs to a model with other parameters.
        """
        path = folder / self.FILE
        if not path.is_file():
            raise ValueError(
                f"a checkpoint must hold {self.FILE}, got none in {folder}; choose another"
            )
        state = load_file(path)
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in self._shadow.items()}:
            raise ValueError(
                f"the teacher in {path} must have the student's parameters; it has others"
            )
        for name, tensor in state.items():
            self._shadow[name].copy_(tensor)


class TrustRegionTeacher(EmaTeacher):
    """Mixes the logits of the first weights, kept, with the student's; rate is the student's share."""

    mixes_logits = True

    def __init__(self, model: nn.Module, *, rate: float) -> None:
        super().__init__(model, rate=0.0)
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"trust_region_rate must lie in 0..1, got {rate}")
        self.student_share = rate

    def features(self, forward: Callable[[], Tensor]) -> Tensor:
        """(1 - share) * the first weights' features + share * the student's.

        Mixing hidden states mixes logits where both go through one head: a projection is linear, and a
        bias enters with weight (1 - share) + share = 1.
        """
        first, student = super().features(forward), forward()
        exact = torch.promote_types(student.dtype, torch.float32)
        return torch.lerp(first.to(exact), student.to(exact), self.student_share).to(student.dtype)
