"""Find an adapter by the name that a user gives."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from regionloss_adapters.protocol import Adapter

#: The bundled adapters: name, module, class. Imported only when asked for.
BUNDLED = {
    "numpy": ("regionloss_adapters.numpy_reference", "NumpyAdapter"),
    "torch": ("regionloss_adapters.torch_eager", "TorchEagerAdapter"),
}


class AdapterError(ValueError):
    """No adapter goes by that name, or what goes by it is none."""


def load_adapter(name: str) -> Adapter:
    """A bundled adapter by name, or `module:object` (an adapter, or a class or function that makes one).

    Modules are also looked for in the current folder.

    Raises:
        AdapterError: it cannot be found or imported, or is no adapter.
    """
    if name in BUNDLED:
        module_name, attribute = BUNDLED[name]
    elif ":" in name:
        module_name, _, attribute = name.partition(":")
    else:
        raise AdapterError(f"no adapter {name!r}; bundled are {', '.join(BUNDLED)}, or name your own as module:object")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if name in BUNDLED:
            raise AdapterError(f"adapter {name!r} needs {error.name}: pip install 'regionloss[{name}]'") from error
        raise AdapterError(f"adapter {name!r}: {error}") from error
    except AttributeError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error
    adapter = found if hasattr(found, "answer") and not isinstance(found, type) else found()
    if not isinstance(adapter, Adapter):
        raise AdapterError(
            f"adapter {name!r}: {type(adapter).__name__} lacks describe() or answer(); see regionloss_adapters.Adapter"
        )
    return adapter
