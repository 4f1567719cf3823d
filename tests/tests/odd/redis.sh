redis-cli -s $REDIS SET 配置 旧 EX 50000
redis-cli -s $REDIS HSET h f 0 k 1
redis-cli -s $REDIS RPUSH l a b a
redis-cli -s $REDIS XADD s 9223372036854775807-1 a b
redis-cli -s $REDIS SET undone 'a "text"'
redis-cli -s $REDIS HSET final f 1
