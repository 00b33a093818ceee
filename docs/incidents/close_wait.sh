#!/usr/bin/env bash
# Who leaks sockets in CLOSE_WAIT? A server that forgets close() on one of its paths.
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
plays "$server" orders-api
plays "$client" browser
watches report --duration 5s --close-wait-after 1s
