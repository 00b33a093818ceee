#!/bin/sh
# Makes the certificates of this folder anew, with OpenSSL 3: an authority, and what it has signed for the tests of the agent's
# listener. They protect nothing: their keys are public. Valid until 2125, but for `expired.pem`.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

key "$work/ca.key"
openssl req -x509 -new -key "$work/ca.key" -subj "/CN=tcp-trace tests" -days 36159 -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"

# sign NAME KEY SUBJECT_ALT_NAMES [FROM TO]
sign() {
    printf '[new]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=%s\n' "$3" >"$work/extensions"
    printf '[ca]\ndefault_ca=it\n[it]\ndatabase=%s/index\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\npolicy=any\n[any]\n' \
        "$work" "$work" >"$work/config"
    : >"$work/index"
    openssl req -new -key "$2" -subj "/" -out "$work/request" -config /dev/null
    openssl ca -batch -notext -config "$work/config" -cert ca.pem -keyfile "$work/ca.key" -in "$work/request" \
        -extfile "$work/extensions" -extensions new -out "$1.pem" \
        -startdate "${4:-20250101000000Z}" -enddate "${5:-21250101000000Z}" 2>"$work/said" || { cat "$work/said"; exit 1; }
}

key server.key
key renewed.key
sign server server.key "DNS:localhost,IP:127.0.0.1"
sign renewed renewed.key "DNS:localhost,IP:127.0.0.1"
sign expired server.key "DNS:localhost,IP:127.0.0.1" 20240101000000Z 20250101000000Z
sign elsewhere server.key "DNS:elsewhere.example"
