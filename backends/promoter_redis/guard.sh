# The parent of an embedded server. It ends the server when the process that started it has exited, even by SIGKILL.
# $1: a private folder, removed at the end; $2: the data folder; $3: the log; then the server's command.
# stdin: a pipe without input, which closes when that process exits. stdout: the lock of the data folder.
home=$1 data=$2 log=$3
shift 3
umask 077
mkdir -p "$home" "$data" && cd "$data" || exit 1
exec 3<&0 </dev/null
"$@" >>"$log" 2>&1 3<&- &
server=$!
(
    exec >/dev/null 2>&1
    read -r nothing <&3
    kill "$server"
    tenths=0
    while [ "$tenths" -lt 50 ] && kill -0 "$server"; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -9 "$server"
) &
watching=$!
wait "$server"
status=$?
kill "$watching" 2>/dev/null
rm -rf "$home"
exit "$status"
