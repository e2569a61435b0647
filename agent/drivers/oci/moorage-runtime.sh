#!/bin/sh
# An OCI runtime that lets containers join a network namespace which was prepared for them.
#
# The engine runs this in place of runc, with runc's arguments. On `create` it looks for @LINKS@/ID (a link to
# the namespace, or the namespace itself mounted there), writes it into the network entry of the bundle's
# config.json, drops the engine's own network hook (which would start the engine's binary again for each container,
# and turn IPv6 off in the namespace), and becomes runc. Where nothing is prepared it refuses. All else is runc's.
# Plain sh and one sed: every millisecond here is paid by every start.

links='@LINKS@'
runc='@RUNC@'

refuse() {
    if [ -n "$log" ]; then
        printf '{"level":"error","msg":"moorage: %s","time":"%s"}\n' "$1" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$log"
    fi
    printf 'moorage: %s\n' "$1" >&2
    exit 1
}

command='' id='' log='' bundle=. next=''
for word; do
    case $next in
        log) log=$word next='' && continue ;;
        bundle) bundle=$word next='' && continue ;;
        value) next='' && continue ;;
    esac
    case $word in
        --log) next=log ;;
        --log=*) log=${word#*=} ;;
        --bundle | -b) next=bundle ;;
        --bundle=* | -b=*) bundle=${word#*=} ;;
        --root | --log-format | --criu | --rootless | --pid-file | --console-socket | --preserve-fds) next=value ;;
        -*) ;;
        *) if [ -z "$command" ]; then command=$word; else id=$word; fi ;;
    esac
    case $command in '' | create) ;; *) break ;; esac
done
[ "$command" = create ] || exec "$runc" "$@"

case $id in '' | .* | *[!A-Za-z0-9_.-]*) refuse 'the container has no usable id' ;; esac
namespace=$links/$id
[ -e "$namespace" ] || refuse "no network namespace is prepared for container $id"
# The file below the mount is executable, the namespace mounted on it never is.
[ ! -x "$namespace" ] || refuse 'the engine does not see what the agent mounts: one of them has a mount namespace of its own'
config=$bundle/config.json
[ -r "$config" ] || refuse "the bundle of container $id has no config.json"

s='[[:space:]]*'
hook='{'$s'"path"'$s':'$s'"[^"]*"'$s','$s'"args"'$s':'$s'\['$s'"libnetwork-setkey"[^]]*\][^{}]*}'
joined=$(sed -e ':a' -e '$!{' -e 'N' -e 'ba' -e '}' \
    -e 's#\("namespaces"'$s':'$s'\[[^]]*\){[^{}]*"type"'$s':'$s'"network"[^{}]*}#\1{"type":"network","path":"'"$namespace"'"}#' \
    -e 's#,'$s"$hook"'##' -e 's#'"$hook$s"',\{0,1\}##' "$config") || refuse "config.json of container $id cannot be read"
case $joined in
    *'{"type":"network","path":"'"$namespace"'"}'*) ;;
    *) refuse "container $id asks for no network namespace of its own" ;;
esac
printf '%s\n' "$joined" >"$config" || refuse "config.json of container $id cannot be written"
exec "$runc" "$@"
