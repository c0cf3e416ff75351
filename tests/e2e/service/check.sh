#!/bin/bash
# Installs Tailwater as docs/service.md says, starts the unit, and prints what can be seen of it. Runs below the systemd that boot.sh
# has started; /case is the folder of the case.
set -u
until_seen() { for _ in $(seq 600); do grep -qs "$1" /var/log/tailwater/events.json && return; sleep 0.1; done; echo "not seen: $1"; }
state() { systemctl show tailwater -p ActiveState -p Result -p ExecMainStatus | tr '\n' ' '; echo; }

install -m 755 /case/tailwater /usr/bin/tailwater
getent group adm systemd-journal >/dev/null || groupadd -f --system adm && groupadd -f --system systemd-journal
id tailwater >/dev/null 2>&1 ||
    useradd --system --user-group --groups adm,systemd-journal --no-create-home --home-dir /var/lib/tailwater --shell /usr/sbin/nologin tailwater
install -D -m 640 -g tailwater /case/tailwater.yaml /etc/tailwater/tailwater.yaml
install -m 644 /case/tailwater.service /etc/systemd/system/tailwater.service
rm -rf /var/lib/tailwater /var/log/tailwater
mkdir -p /var/log/app
echo "for the group" >/var/log/app/group.log
echo "for root alone" >/var/log/app/root.log
chgrp adm /var/log/app/group.log
chmod 640 /var/log/app/group.log
chmod 600 /var/log/app/root.log
systemctl daemon-reload

systemctl start tailwater && echo "started"
until_seen "for the group"
pid="$(systemctl show -p MainPID --value tailwater)"
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$pid/status"
grep '^Max core' "/proc/$pid/limits"
stat -c 'data %a %U' /var/lib/tailwater
stat -c 'output %a %U %G' /var/log/tailwater /var/log/tailwater/events.json
grep -c "root alone" /var/log/tailwater/events.json
echo "again for the group" >>/var/log/app/group.log
until_seen "again for the group"
systemctl stop tailwater
state

install -D -m 644 /case/read-everything.conf /etc/systemd/system/tailwater.service.d/read-everything.conf
systemctl daemon-reload
systemctl start tailwater && echo "started with the drop-in"
until_seen "for root alone"
echo "lines $(wc -l </var/log/tailwater/events.json)"
systemctl stop tailwater
state
journalctl -u tailwater --no-pager -o cat >/case/journal
echo "end"
systemctl exit --force --force || systemctl poweroff --force --force
