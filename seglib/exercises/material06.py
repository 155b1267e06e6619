"""Lesson 6's five training loops with one fault each, as they are shown in the notebook."""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
from torch import nn


def loop_a(model, loss, batches, optimizer, scaler, device):
    for images, target in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


def loop_b(model, loss, batches, optimizer, scaler, device):
    for images, target in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scaler.update()


def loop_c(model, loss, batches, optimizer, scaler, device):
    for images, target in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value)
        value.backward()
        scaler.step(optimizer)
        scaler.update()


def loop_d(model, loss, batches, optimizer, scaler, device):
    """One step for the mean of four batches, which have as many valid pixels each."""
    for number, (images, target) in enumerate(batches, start=1):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target) / 4
        scaler.scale(value).backward()
        if number % 4 == 0:
            scaler.step(optimizer)
            scaler.update()


def loop_e(model, loss, batches, optimizer, scaler, device):
    for images, target in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value).backward()
        if not all(p.grad.isfinite().all() for p in model.parameters()):
            continue  # an overflow: drop this batch
        scaler.step(optimizer)
        scaler.update()
