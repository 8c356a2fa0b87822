"""Find an adapter by a user's name for it."""

from __future__ import annotations

import importlib
import shlex
import sys
import traceback
from pathlib import Path

from regionloss_adapters.process.adapter import ProcessAdapter
from regionloss_adapters.protocol import Adapter, AdapterError

#: The bundled adapters: name, module, class. Imported only on use.
BUNDLED = {
    "numpy": ("regionloss_adapters.numpy_reference", "NumpyAdapter"),
    "torch": ("regionloss_adapters.torch.fast", "TorchAdapter"),
    "torch-analytic": ("regionloss_adapters.torch.fast", "TorchAnalyticAdapter"),
    "torch-compiled": ("regionloss_adapters.torch.fast", "TorchCompiledAdapter"),
    "torch-triton": ("regionloss_adapters.torch.triton", "TorchTritonAdapter"),
    "torch-eager": ("regionloss_adapters.torch.eager", "TorchEagerAdapter"),
    "darknet": ("regionloss_adapters.darknet.adapter", "adapter"),
    "lightnet": ("regionloss_adapters.ports.lightnet", "adapter"),
    "marvis": ("regionloss_adapters.ports.marvis", "adapter"),
    "andy-yun": ("regionloss_adapters.ports.andy_yun", "adapter"),
    "uvipen": ("regionloss_adapters.ports.uvipen", "adapter"),
    "samylee": ("regionloss_adapters.ports.samylee", "adapter"),
    "zjykzj": ("regionloss_adapters.ports.zjykzj", "adapter"),
    "longcw": ("regionloss_adapters.ports.longcw", "adapter"),
    "keras-yolo2": ("regionloss_adapters.ports.keras_yolo2", "adapter"),
    "yad2k": ("regionloss_adapters.ports.yad2k", "adapter"),
}


def load_adapter(name: str) -> Adapter:
    """A bundled adapter by name, `module:object` (an adapter, or something that returns one), or `cmd:command`.

    Modules are also searched for in the current folder. A command, quoted as in a shell but run without one, is an
    adapter in a process of its own (`docs/protocol.md`).

    Raises:
        AdapterError: it cannot be found or imported, or is not an adapter.
    """
    if name.startswith("cmd:"):
        return _process(name)
    if name in BUNDLED:
        module_name, attribute = BUNDLED[name]
    elif ":" in name:
        module_name, _, attribute = name.partition(":")
    else:
        raise AdapterError(
            f"no adapter {name!r}; bundled are {', '.join(BUNDLED)}, or name your own as module:object or cmd:command"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        loaded = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if name in BUNDLED:
            raise AdapterError(f"adapter {name!r} needs {error.name}: pip install 'regionloss[torch]'") from error
        raise AdapterError(f"adapter {name!r}: {error}") from error
    except AttributeError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error
    except Exception as error:  # a user's module may raise anything
        raise AdapterError(f"adapter {name!r}: {_where(error)}: {type(error).__name__}: {error}") from error
    adapter = loaded if hasattr(loaded, "answer") and not isinstance(loaded, type) else loaded()
    if not isinstance(adapter, Adapter):
        raise AdapterError(
            f"adapter {name!r}: {type(adapter).__name__} lacks describe() or answer(); see regionloss_adapters.Adapter"
        )
    return adapter


def _where(error: Exception) -> str:
    """The file and line of the error in a module that could not be imported, preferably in the current folder."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(Path.cwd()))]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def _process(name: str) -> Adapter:
    try:
        return ProcessAdapter(shlex.split(name.removeprefix("cmd:")))
    except ValueError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error
