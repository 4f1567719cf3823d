# Units that depend on each other; none is started.
cd /etc/systemd/system
cat >t-base.service <<'END'
[Service]
ExecStart=/bin/sleep 4321
END
cat >t-needs.service <<'END'
[Unit]
Requires=t-base.service
After=t-base.service
[Service]
ExecStart=/bin/sleep 4322
END
cat >t-part.service <<'END'
[Unit]
PartOf=t-base.service
[Service]
ExecStart=/bin/sleep 4323
END
cat >t-bound.service <<'END'
[Unit]
BindsTo=t-needs.service
After=t-needs.service
[Service]
ExecStart=/bin/sleep 4324
END
cat >t-top.service <<'END'
[Unit]
Wants=t-help.service
Conflicts=t-rival.service
[Service]
ExecStart=/bin/sleep 4325
END
cat >t-help.service <<'END'
[Unit]
Requires=t-deep.service
[Service]
ExecStart=/bin/sleep 4326
END
cat >t-deep.service <<'END'
[Service]
ExecStart=/bin/sleep 4327
END
cat >t-rival.service <<'END'
[Service]
ExecStart=/bin/sleep 4328
END
cat >t-sock.socket <<'END'
[Socket]
ListenStream=/run/t-sock
END
cat >t-sock.service <<'END'
[Unit]
Requires=t-sock.socket
[Service]
ExecStart=/bin/sleep 4329
END
cat >t-user.service <<'END'
[Unit]
Requires=t-idle.service
After=t-idle.service
[Service]
ExecStart=/bin/sleep 4330
END
cat >t-idle.service <<'END'
[Unit]
StopWhenUnneeded=yes
[Service]
ExecStart=/bin/sleep 4331
END
cat >t-lasting.service <<'END'
[Service]
KillMode=process
ExecStart=/bin/sh -c 'sleep 4350 & exec sleep 4351'
END
cat >t-front.service <<'END'
[Unit]
PropagatesReloadTo=t-worker.service
[Service]
ExecStart=/bin/sleep 4352
ExecReload=/bin/true
END
cat >t-worker.service <<'END'
[Service]
ExecStart=/bin/sleep 4353
ExecReload=/bin/kill -HUP $MAINPID
END
cat >t-never.service <<'END'
[Unit]
ConditionPathExists=/nope
[Service]
ExecStart=/bin/sleep 4332
END
cat >t-asserts.service <<'END'
[Unit]
AssertPathExists=/nope
[Service]
ExecStart=/bin/sleep 4332
END
cat >t-ends.service <<'END'
[Service]
ExecStart=/bin/true
END
cat >t-late.service <<'END'
[Service]
ExecStart=/bin/sh -c 'sleep 0.1; exit 3'
END
cat >t-flaps.service <<'END'
[Service]
Restart=always
RestartSec=20ms
StartLimitBurst=1000
ExecStart=/bin/true
END
cat >t-once.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/true
END
cat >t-busy.service <<'END'
[Service]
ExecStart=/bin/sh -c 'while :; do :; done'
END
cat >t-many@.service <<'END'
[Service]
ExecStart=/bin/sleep 4333
END
cat >t-bad-end.service <<'END'
[Service]
ExecStart=/bin/sleep 4334
ExecStop=/bin/false
END
cat >t-static.service <<'END'
[Service]
ExecStart=/bin/sleep 4335
END
cat >t-other.service <<'END'
[Service]
ExecStart=/bin/sleep 4336
[Install]
Also=t-static.service
END
cat >t-real.service <<'END'
[Service]
ExecStart=/bin/sleep 4337
[Install]
Alias=t-alias.service
WantedBy=multi-user.target
END
cd - >/dev/null
systemctl daemon-reload
