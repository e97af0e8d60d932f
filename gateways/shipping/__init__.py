"""Reports what a gateway has served: reads its access log and posts it to `/gateway/v1/usage` (docs/gateways.md).

It runs on the gateway's host, which need not have anything else of ours: the standard library of Python ≥ 3.9 is all.

    KEEPTRUSTS_GATEWAY_TOKEN_FILE=token python3 -m gateways.shipping --format nginx \\
        --console https://keys.example.com --state /var/lib/keeptrusts/position.json /var/log/nginx/keeptrusts.log

Nothing is lost and nothing counts twice, whoever of the two is restarted, and however: the place in the log is written
down only when the console has answered that it has the lines before it, and what is sent again has the same ids.
"""
