-- SPDX-License-Identifier: GPL-2.0-or-later
-- What wrk asks of flask_app.py, in turn; at the end one line of JSON.
local n = 0
local body = '{"a": [1, 2, 3], "b": "' .. string.rep("y", 500) .. '"}'
local json = { ["Content-Type"] = "application/json" }

function request()
	n = n + 1
	if n % 3 == 0 then
		return wrk.format("GET", "/")
	elseif n % 3 == 1 then
		return wrk.format("GET", "/item/" .. (n * 7 % 10000))
	end
	return wrk.format("POST", "/echo", json, body)
end

function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format('{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, "errors": %d}\n', summary.requests,
		summary.duration, latency:percentile(50), latency:percentile(99), latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
