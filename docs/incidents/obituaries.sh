#!/usr/bin/env bash
# How did this connection live and die? One that ends in order, one that is reset, one that is refused.
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
plays "$server" web-shop
plays "$client" caller
server=$client watches stream --closed --duration 4s
