"""The suffixes of image files, and of files that are not images."""

from __future__ import annotations


def _suffixes(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


IMAGES = _suffixes(
    "apng avif avifs blp bmp bw cur dcx dds dib fit fits flc fli ftc ftu gbr gif heic heif hif icb "
    "icns ico im j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx jxl mpo msp pbm pcd pcx pfm pgm png pnm "
    "ppm psd pxr qoi ras rgb rgba sgi tga tif tiff vda vst webp xbm xpm"
)
"""What Pillow or a plug-in of it reads as pixels. Fixed, so that a folder has the same key on every
machine, whichever plug-ins are installed there."""

OTHER_IMAGES = _suffixes(
    "3fr ai arw cr2 cr3 dcm djvu dng emf eps erf exr hdr nef nii orf pdf pef ps psb raf raw rw2 "
    "sr2 srw svg svgz wmf x3f xcf"
)
"""Pictures that Pillow does not read as pixels: vectors, raw files of cameras, medical formats."""

NOT_IMAGES = _suffixes(
    "avi bat bufr cfg csv db doc docx grib gz h5 hdf html iim ini ipynb json jsonl lock log m mat "
    "md mkv mov mp3 mp4 mpeg mpg npy npz palm parquet pickle pkl pt pth py pyc rst sh sha256 "
    "sqlite tar tex toml tsv txt url wav xls xlsx xml yaml yml zip"
)
"""Files that are not even looked into."""

COPIES = _suffixes("bak crdownload download old orig part partial swp tmp")
"""Copies and unfinished files, also of images."""
