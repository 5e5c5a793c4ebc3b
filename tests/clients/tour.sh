#!/usr/bin/env bash
# The README's tour with curl, against the server at the URL $1. Prints one line a check. What follows are options of curl.
set -u
base=$1
shift
options=("$@")
if [[ $base == https:* ]]; then name="curl, TLS"; else name=curl; fi

check() { # name, wanted pattern, text
  if [[ $3 =~ $2 ]]; then echo "ok: $name: $1"; else echo "FAILED: $name: $1: $3"; fi
}
call() { curl --silent --max-time 10 "${options[@]}" --write-out ' %{http_code}' "$@"; }

json='Content-Type: application/json'
check "health is 200" '^\{"status":"ok",.*\} 200$' "$(call "$base/health")"
registered=$(call -X POST "$base/register" -H "$json" -d '{"user_id":1}')
check "register answers a url" "^\{\"url\":\"${base/#http/ws}/ws/[0-9a-f]{32}\"\} 200$" "$registered"
id=$(sed -E 's/.*ws\/([0-9a-f]+).*/\1/' <<<"$registered")
check "publish answers its place" '^\{"topic":"cats","offset":[0-9]+,"epoch":"[^"]+"\} 200$' \
  "$(call -X POST "$base/publish" -H "$json" -d '{"topic":"cats","message":"are awesome"}')"
check "publish to a topic in the path" '"topic":"black cats".* 200$' \
  "$(call -X POST "$base/publish/black%20cats" -H 'Content-Type: text/plain' -d 'are awesome too')"
check "curl's default form type is refused with a hint" 'Content-Type.* 415$' "$(call "$base/publish/cats" -d x)"
check "no upgrade is 426" ' 426$' "$(call "$base/ws/$id")"
check "unregister is 200" ' 200$' "$(call -X DELETE "$base/register/$id")"
check "unregister again is 200" ' 200$' "$(call -X DELETE "$base/register/$id")"
check "an unknown path is a JSON 404" '^\{"error":\{"code":"not_found",.* 404$' "$(call "$base/nothing")"
head -c 2097152 /dev/zero | tr '\0' 'x' >"${TMPDIR:-/tmp}/fanfare-tour-$$"
check "2 MiB are 413" ' 413$' \
  "$(call -X POST "$base/publish/cats" -H 'Content-Type: text/plain' --data-binary "@${TMPDIR:-/tmp}/fanfare-tour-$$")"
rm -f "${TMPDIR:-/tmp}/fanfare-tour-$$"
