"""Image files from anywhere: how large one may be, and why one cannot be read."""

import errno
import os
import re
import stat
import warnings

# Pixels of one image; decoded, this default takes 800 MB. OpenCV reads it when it is imported, and
# refuses what has more before it takes memory. An environment that sets a number keeps its own.
LIMIT = 'OPENCV_IO_MAX_IMAGE_PIXELS'
DEFAULT = str(2**28)
BYTES = 8  # of a pixel, where nothing is compressed: four channels of 16 bits
if not re.fullmatch('[0-9]{1,18}', os.environ.setdefault(LIMIT, DEFAULT)):  # OpenCV may abort
    warnings.warn(
        f'{LIMIT} must be a whole number, got {os.environ[LIMIT]!r}; {DEFAULT} is taken',
        stacklevel=2,
    )
    os.environ[LIMIT] = DEFAULT


def max_pixels() -> int:
    """How many pixels an image may have."""
    return int(os.environ[LIMIT])


def require_file(path: str | os.PathLike) -> int:
    """The bytes of a file; OSError for what is none, or has more than an image can need.

    On a pipe reading would wait, and decoders take a file into memory whole.
    """
    found, most = os.stat(path), BYTES * max_pixels()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, 'it is no file', path)
    if found.st_size > most:
        words = f'it has {found.st_size} bytes, more than {most}; {LIMIT} sets another limit'
        raise OSError(errno.EINVAL, words, path)
    return found.st_size


def why_unreadable(path: str | os.PathLike) -> str:
    """Why an image file cannot be read, in words; nothing but its header is read."""
    from PIL import Image

    try:
        if not require_file(path):
            return 'the file is empty'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                with Image.open(path) as image:
                    width, height = image.size
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except OSError as error:
        return error.strerror or 'it has no header of an image that is known'
    except Exception:  # a header can be wrong in any way
        return 'its header is damaged'
    if width * height > max_pixels():
        return (
            f'it says to be {width} x {height}, more than {max_pixels()} pixels; '
            f'{LIMIT} sets another limit'
        )
    return 'it is cut short, damaged or of a kind that OpenCV does not read'
