#!/usr/bin/env bash
# The same symptom, half-open connections that pile up, and another cause: a program that accepts one connection a second.
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
plays "$server" busy-api
plays "$client" crowd
watches report --duration 6s
