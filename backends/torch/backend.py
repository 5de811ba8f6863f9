"""The PyTorch replica: torch's SGD is eq. 9 as it stands, so the learning rate is simply set before each step."""

from collections.abc import Callable

import horovod
import horovod.torch as hvd
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lbsgd.backends.arrays import require_fit
from lbsgd.backends.contract import Backend, ReplicaSpec
from lbsgd.backends.phases import PhaseClock
from lbsgd.backends.torch.allreduce import GradientAllreduce, contiguous_view
from lbsgd.backends.torch.batch_norm import SharedStatistics
from lbsgd.backends.torch.device import choose_device, has_fast_bf16, kind_of, set_up_gpu
from lbsgd.backends.torch.library import library_network
from lbsgd.backends.torch.network import ResidualNetwork
from lbsgd.backends.torch.optimizer import Optimizer
from lbsgd.backends.torch.profiler import TorchProfiler
from lbsgd.models import describe, library_model
from lbsgd.models.initialization import initial_arrays
from lbsgd.models.state import Arrays, State

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend(Backend):
    """One replica in PyTorch."""

    framework = "torch"
    precisions = tuple(PRECISIONS)

    def __init__(self, spec: ReplicaSpec) -> None:
        super().__init__(spec)
        if spec.world.size > 1:  # alone, Horovod's thread would only take time
            hvd.init(spec.world.for_other_libraries())
        torch.set_num_threads(spec.threads)
        spec = self.spec
        self.device = choose_device(spec.world)
        if self.device.type == "cuda":
            set_up_gpu(spec.deterministic)
        self.asynchronous = self.device.type == "cuda"
        self.copies = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.dtype = PRECISIONS[spec.recipe.precision]
        self.memory_format = torch.channels_last if spec.channels_last else torch.contiguous_format

        self.network = build_network(spec)
        self.network.to(self.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]  # torch documents it
        self.together = spec.workers_together(kind_of(self.device)) if isinstance(self.network, ResidualNetwork) else 1
        self.passes = spec.accumulate // self.together
        self.statistics = SharedStatistics(self.network, self.together, self.passes)
        self.optimizer = Optimizer(self.network, spec)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.allreduce = GradientAllreduce(self.network if spec.world.size > 1 else None)
        self.mean = torch.tensor(spec.recipe.images.mean, device=self.device).view(1, 3, 1, 1)
        self.deviation = torch.tensor(spec.recipe.images.std, device=self.device).view(1, 3, 1, 1)
        self.pixels: Callable[[Tensor], Tensor] = self._pixels
        self.compiled = spec.compile == "on" or (spec.compile == "auto" and self.device.type == "cuda")
        if self.compiled:
            self._compile()

    @staticmethod
    def fastest_precision(spec: ReplicaSpec) -> str:
        return "bf16" if has_fast_bf16(choose_device(spec.world)) else "fp32"

    def _compile(self) -> None:
        """Compile what a pass does, in parts: an allreduce can start as soon as its part's backward has ended."""
        self.pixels = torch.compile(self._pixels, dynamic=False)
        if isinstance(self.network, ResidualNetwork):
            self.network.compile_parts()
        else:
            self.network.compile(dynamic=False)

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, learning_rate: float, clock: PhaseClock | None = None
    ) -> Tensor:
        pixels, truth = torch.from_numpy(images), torch.from_numpy(labels)
        if clock:
            pixels, truth = self._on_device(pixels), self._on_device(truth)
            self._reach(clock.staged)
        self.network.train()
        losses = self._backward(pixels, truth, overlapped=clock is None)
        if clock:
            self._reach(clock.computed)
            clock.meet(self._gradient_squared())
            self.allreduce.start()
        self.allreduce.wait()
        if clock:
            self._reach(clock.averaged)
            clock.counted(self._gradient_squared())
        self.optimizer.step(learning_rate, self.scaler)
        return losses

    def _reach(self, phase: Callable[[], None]) -> None:
        """Tell the clock, once the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        phase()

    def _gradient_squared(self) -> float:
        """The squared norm of the gradients in the parameters, without their loss scale."""
        norms = torch._foreach_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        return float(torch.stack(norms).square().sum()) / self.scaler.get_scale() ** 2

    def _backward(self, pixels: Tensor, truth: Tensor, *, overlapped: bool) -> Tensor:
        """Leave the gradients of the virtual workers' mean loss in the parameters, and give that loss.

        overlapped: start each gradient's allreduce as soon as it is there.
        """
        images = self.together * self.spec.recipe.batch_per_worker
        losses = torch.zeros((), device=self.device)
        for index in range(self.passes):
            share = slice(index * images, (index + 1) * images)
            self.allreduce.armed = overlapped and index == self.passes - 1
            with self.statistics.turn(index):
                loss = self._loss(pixels[share], truth[share]) / self.passes
                self.scaler.scale(loss).backward()
            losses += loss.detach()
        return losses

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean over the images of the virtual workers of a pass."""
        logits = self._logits(images)
        return functional.cross_entropy(logits, self._on_device(labels), label_smoothing=self.spec.recipe.label_smoothing)

    def _logits(self, images: Tensor) -> Tensor:
        x = self.pixels(self._on_device(images))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(x).float()

    def _pixels(self, images: Tensor) -> Tensor:
        """(x / 255 - mean) / std, in the precision to compute in."""
        x = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        return x.div_(255).sub_(self.mean).div_(self.deviation).to(self.dtype)

    def _on_device(self, tensor: Tensor) -> Tensor:
        """The tensor on this replica's device. A GPU copies on a stream of its own while it computes the step before."""
        if self.copies is None:
            return tensor
        with torch.cuda.stream(self.copies):
            copied = tensor.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream()
        computing.wait_stream(self.copies)
        copied.record_stream(computing)  # its memory is not given to the next copy before it was used
        return copied

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """As Backend.allocate: pinned for a GPU, which can copy from nothing else while it computes."""
        if self.copies is None:
            return super().allocate(shape)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()

    def loss_value(self, loss: Tensor) -> float:
        return loss.item()

    @torch.no_grad()
    def evaluate(self, images: np.ndarray, labels: np.ndarray, valid: int) -> tuple[int, float]:
        self.network.eval()
        with torch.compiler.set_stance("force_eager"):  # compiling for evaluation takes longer than it saves
            logits = self._logits(torch.from_numpy(images))[:valid]
        truth = self._on_device(torch.from_numpy(labels))[:valid]
        wrong = int((logits.argmax(1) != truth).sum())
        return wrong, functional.cross_entropy(logits, truth, reduction="sum").item()

    @property
    def gradient_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.network.parameters() if parameter.requires_grad)

    def average_batch_norm(self) -> None:
        if self.spec.world.size > 1 and self.statistics.running:
            hvd.grouped_allreduce_(self.statistics.running, name="batch_norm", op=hvd.Average)

    def export_state(self) -> State:
        model = {name: to_numpy(value) for name, value in self.network.state_dict().items()}
        velocity = {name: to_numpy(value) for name, value in self.optimizer.velocity.items()}
        return State(model, velocity, self._loss_scale())

    def import_state(self, state: State) -> None:
        copy_into("model", self.network.state_dict(), state.model)
        copy_into("velocity", self.optimizer.velocity, state.velocity)
        self._set_loss_scale(state.loss_scale)

    def broadcast(self) -> None:
        if self.spec.world.size > 1:
            tensors = self.network.state_dict() | {f"velocity.{k}": v for k, v in self.optimizer.velocity.items()}
            for name, tensor in tensors.items():
                hvd.broadcast_(contiguous_view(tensor), root_rank=0, name=f"broadcast.{name}")
            self._set_loss_scale(self.spec.world.broadcast(self._loss_scale()))

    def profiler(self) -> TorchProfiler:
        return TorchProfiler()

    def environment(self) -> dict[str, object]:
        gpu = self.device.type == "cuda"
        return {
            "torch": torch.__version__,
            "horovod": horovod.__version__,
            "horovod_build": {
                "mpi": hvd.mpi_built(),
                "gloo": hvd.gloo_built(),
                "nccl": bool(hvd.nccl_built()),
            },
            "cuda": torch.version.cuda,
            "device": torch.cuda.get_device_name(self.device) if gpu else "cpu",
            "threads": torch.get_num_threads(),
            "precision": self.spec.recipe.precision,
            "compiled": self.compiled,
            "deterministic": self.spec.deterministic,
        }

    def _loss_scale(self) -> dict[str, float]:
        """What GradScaler adapts; empty unless the precision is fp16."""
        return {key: float(value) for key, value in self.scaler.state_dict().items() if key in SCALE_KEYS}

    def _set_loss_scale(self, scale: dict[str, float]) -> None:
        if self.scaler.is_enabled() and scale:
            adapted = {"scale": scale["scale"], "_growth_tracker": int(scale["_growth_tracker"])}
            self.scaler.load_state_dict(self.scaler.state_dict() | adapted)


SCALE_KEYS = ("scale", "_growth_tracker")


def create(spec: ReplicaSpec) -> TorchBackend:
    """The PyTorch replica for `spec`."""
    return TorchBackend(spec)


def build_network(spec: ReplicaSpec) -> nn.Module:
    """The recipe's network, holding its initial weights."""
    library = library_model(spec.recipe.model)
    if library:
        return library_network(library[1], spec.classes, spec.recipe.seed)
    description = describe(spec.recipe.model, spec.classes)
    network = ResidualNetwork(description)
    copy_into("model", network.state_dict(), initial_arrays(description, spec.recipe.seed, spec.recipe.last_gamma))
    return network


@torch.no_grad()
def copy_into(what: str, tensors: dict[str, Tensor], arrays: Arrays) -> None:
    """Overwrite tensors in place by the arrays of the same names."""
    require_fit(what, arrays, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A C-contiguous copy in the tensor's logical (OIHW) order."""
    return np.array(tensor.detach().cpu().numpy(), order="C")
