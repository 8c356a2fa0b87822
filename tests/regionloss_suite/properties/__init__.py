"""Properties: what holds for every batch, tried on batches that Hypothesis draws. One module for each subject."""

from regionloss_suite.properties import (
    agreement,
    assignment,
    classes,
    derivatives,
    domain,
    geometry,
    images,
    indicators,
    inputs,
    lists,
    prior,
    targets,
    weights,
)
from regionloss_suite.properties.property import Outcome, Property, attempt
from regionloss_suite.properties.registry import PROPERTIES

__all__ = [
    "PROPERTIES",
    "Outcome",
    "Property",
    "agreement",
    "assignment",
    "attempt",
    "classes",
    "derivatives",
    "domain",
    "geometry",
    "images",
    "indicators",
    "inputs",
    "lists",
    "prior",
    "targets",
    "weights",
]
