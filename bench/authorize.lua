-- Asks with the Authorization headers of a file, in random order; its last line is one JSON object.
-- wrk … --script authorize.lua URL -- FILE

local requests = {}

function init(args)
    math.randomseed(os.time())
    for line in io.lines(args[1]) do
        wrk.headers["Authorization"] = line
        requests[#requests + 1] = wrk.format()
    end
end

function request()
    return requests[math.random(#requests)]
end

function done(summary, latency, _)
    local errors = summary.errors
    local lost = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format(
        '\n{"seconds": %f, "answers": %d, "refused": %d, "lost": %d, "p50_ms": %f, "p99_ms": %f}\n',
        summary.duration / 1e6, summary.requests, errors.status, lost,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
