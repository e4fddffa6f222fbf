#!/bin/sh
# Says whether Shopify signed a webhook: HMAC-SHA256 of the body's bytes, as they came, in base64. For a webhook that was
# refused with 401 invalid_signature, or a receiver of your own.
#
#   SECRET=... sh verify_signature.sh body.json 'value of X-Shopify-Hmac-Sha256'
set -eu
# Other users can see the arguments of openssl while it runs: try this where you are alone.
expected=$(openssl dgst -sha256 -hmac "$SECRET" -binary < "$1" | base64)
if [ "$expected" = "$2" ]; then
  echo 'signed with this secret'
else
  echo 'not signed with this secret, or the body was changed (a new line at its end counts)'
  exit 1
fi
