#!/usr/bin/env bash
# Are we being flooded? SYNs in the name of hosts that do not exist, and a program that does nothing wrong.
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
plays "$server" web-shop
plays "$client" flood
watches report --duration 6s
