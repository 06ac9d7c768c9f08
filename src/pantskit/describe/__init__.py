"""Datasets described: the paper's table of datasets, with one's own beside them."""

from pantskit.describe.compare import CompareResult as CompareResult
from pantskit.describe.compare import compare_datasets as compare_datasets
from pantskit.describe.comparison import Comparison as Comparison
from pantskit.describe.comparison import build_comparison as build_comparison
from pantskit.describe.counting import DatasetCounts as DatasetCounts
from pantskit.describe.counting import count_dataset as count_dataset
