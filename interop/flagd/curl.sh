#!/usr/bin/env bash
# flagd's quick start with curl, over a Unix socket. Usage: curl.sh SOCKET. One line per check.
set -uo pipefail
socket=$1
failed=0

# check NAME EXPECTED ARGUMENTS..: the answer holds EXPECTED.
check() {
    local name=$1 expected=$2 answer
    shift 2
    answer=$(curl --silent --show-error --max-time 10 --unix-socket "$socket" "$@" 2>&1)
    if [[ $answer == *"$expected"* ]]; then
        echo "ok - curl: $name"
    else
        failed=1
        echo "not ok - curl: $name: $answer"
    fi
}
json='Content-Type: application/json'
base=http://localhost
check 'quick start, v1' '"value":true' -X POST "$base/flagd.evaluation.v1.Service/ResolveBoolean" \
    -d '{"flagKey":"boolean-flag","context":{}}' -H "$json"
check 'quick start, v2' '"value":"10"' -X POST "$base/flagd.evaluation.v2.Service/ResolveInt" \
    -d '{"flagKey":"integer-flag","context":{}}' -H "$json"
check 'not found' '{"code":"not_found","message":"Flag not found"}' \
    -X POST "$base/flagd.evaluation.v1.Service/ResolveBoolean" -d '{"flagKey":"none"}' -H "$json"
check 'HTTP/2' '"value":true' --http2-prior-knowledge -X POST "$base/flagd.evaluation.v1.Service/ResolveBoolean" \
    -d '{"flagKey":"boolean-flag"}' -H "$json"
check 'OFREP, one flag' '"reason":"STATIC"' -X POST "$base/ofrep/v1/evaluate/flags/boolean-flag"
check 'OFREP, all flags' '"flags":[' -X POST "$base/ofrep/v1/evaluate/flags" -d '{"context":{}}' -H "$json"
tag=$(curl --silent --unix-socket "$socket" -X POST "$base/ofrep/v1/evaluate/flags/" -o /dev/null -w '%header{etag}')
check 'OFREP, not modified' '304' -X POST "$base/ofrep/v1/evaluate/flags" -H "If-None-Match: $tag" -o /dev/null -w '%{http_code}'
check 'healthz' '200' "$base/healthz" -o /dev/null -w '%{http_code}'
check 'readyz' '200' "$base/readyz" -o /dev/null -w '%{http_code}'
check 'metrics' 'feature_flag_flagd_impression_total' "$base/metrics"
exit "$failed"
