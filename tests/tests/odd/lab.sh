unit() { printf '%b' "$2" >"/etc/systemd/system/$1"; }
service='[Service]\nExecStart=/bin/sleep'
# What needs it goes with it: three ways, one of them through another, and one that was not active.
unit t-base.service "$service 4411\n"
unit t-requires.service "[Unit]\nRequires=t-base.service\nAfter=t-base.service\n$service 4412\n"
unit t-part.service "[Unit]\nPartOf=t-base.service\n$service 4413\n"
unit t-binds.service "[Unit]\nBindsTo=t-requires.service\nAfter=t-requires.service\n$service 4414\n"
unit t-rests.service "[Unit]\nRequires=t-base.service\n$service 4415\n"
# What it wants comes with it, and what conflicts goes.
unit t-other.service "[Unit]\nWants=t-wanted.service\nConflicts=t-enemy.service\n$service 4416\n"
unit t-wanted.service "[Unit]\nStopWhenUnneeded=yes\n$service 4417\n"
unit t-enemy.service "$service 4418\n"
unit t-final.service "$service 4419\n"
systemctl daemon-reload
systemctl start t-base t-requires t-part t-binds t-enemy
printf theirs >theirs; chmod 640 theirs
printf original >original; chmod 640 original
nas: cd /volume1/drone; printf original >changed; chmod 640 changed; printf theirs >theirs; chown drone: changed theirs
nas: cd /volume1/drone; printf aside >aside; chown drone: aside; chmod 604 aside
