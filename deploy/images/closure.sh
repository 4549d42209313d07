#!/usr/bin/env bash
# The libraries of a program:
#   closure.sh PROGRAM           checks that it needs no other than those below, and lists them with what a PKCS#11 module may load besides
#   closure.sh PROGRAM FOLDER    and copies them there, at their own paths
# All are glibc's and gcc's own. A program that suddenly needs another one (libssl, libpq) is refused here, not found at the customer's.
set -euo pipefail
# What programs are linked to.
linked='ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 libc.so.6 libm.so.6 libgcc_s.so.1'
# Empty shells of glibc today, but a vendor's module still names them.
loaded='libdl.so.2 libpthread.so.0 librt.so.1'

program=$1 folder=${2:-}
paths=()
found=$(ldd "$program") || { echo "closure: $program is no dynamic program: $found" >&2; exit 1; }
while read -r line; do
    case "$line" in
    linux-vdso.so.1*) continue ;;
    *'not found'*) echo "closure: $line" >&2; exit 1 ;;
    *'=>'*) path=${line#*=> } ;;
    *) path=$line ;;
    esac
    path=${path%% (*}
    case " $linked " in
    *" ${path##*/} "*) paths+=("$path") ;;
    *) echo "closure: $program needs ${path##*/}, which the image does not hold" >&2; exit 1 ;;
    esac
done <<<"$found"
for name in $loaded; do
    for path in "${paths[@]}"; do
        case "$path" in */libc.so.6) paths+=("${path%/*}/$name") ;; esac
    done
done
for path in "${paths[@]}"; do
    [ -e "$path" ] || { echo "closure: there is no $path" >&2; exit 1; }
    echo "$path"
    [ -z "$folder" ] || { mkdir -p "$folder${path%/*}" && cp -L "$path" "$folder$path"; }
done
