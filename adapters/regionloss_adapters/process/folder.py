"""The private folder in which an adapter in another process and the suite exchange large tensors."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_adapters.protocol import AdapterError

#: The formats of a file: raw little-endian numbers without a header.
FORMATS: dict[str, np.dtype[Any]] = {"float64": np.dtype("<f8"), "float32": np.dtype("<f4")}


class Folder:
    """A temporary folder that only this user can enter.

    It is held open, and every file is opened relative to it by its bare name and never through a link, so whatever a
    child does to the folder's path, nothing outside is read or written.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="regionloss-", ignore_cleanup_errors=True)
        self.path = os.path.realpath(self._temporary.name)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def write(self, name: str, values: NDArray[np.float64]) -> None:
        """Write a new file of little-endian float64 numbers in row-major order.

        Raises:
            AdapterError: the file exists already, or the disk is full.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=self._descriptor), "wb") as stream:
                stream.write(np.ascontiguousarray(values, dtype=FORMATS["float64"]).tobytes())
        except OSError as error:
            raise AdapterError(f"the tensor file {name} cannot be written: {error.strerror}") from error

    def read(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The numbers of a file, no more of it than the shape needs.

        Raises:
            AdapterError: no such file, a link or a device in its place, or another size.
        """
        if name != os.path.basename(name):
            raise AdapterError(f"the adapter itself names {name!r}, which is not a file of the folder")
        size = int(np.prod(shape, dtype=np.int64)) * FORMATS[dtype].itemsize
        try:
            # Opening must not block: a named pipe in place of the file would wait for ever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=self._descriptor)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise AdapterError(f"the adapter itself names {name!r}, which is no plain file")
                if status.st_size != size:
                    raise AdapterError(
                        f"the adapter itself wrote {status.st_size} bytes to {name!r}, "
                        f"expected {size}: {dtype} of shape {list(shape)}"
                    )
                with os.fdopen(descriptor, "rb", closefd=False) as stream:
                    data = stream.read(size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AdapterError(f"the adapter itself names {name!r}, which cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise AdapterError(f"the adapter itself changed {name!r} while it was read")
        numbers = np.frombuffer(data, FORMATS[dtype]).astype(np.float64)
        return numbers.reshape(shape)

    def clear(self) -> None:
        """Delete the files of an exchange."""
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Delete the folder."""
        self._close()
        self._temporary.cleanup()
