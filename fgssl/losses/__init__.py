"""Losses: functions of tensors, one formula a file."""

from fgssl.losses.info_nce import info_nce, info_nce_per_row
from fgssl.losses.nt_xent import nt_xent
from fgssl.losses.precision import at_least_fp32

__all__ = ["at_least_fp32", "info_nce", "info_nce_per_row", "nt_xent"]
