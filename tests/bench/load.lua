-- What wrk sends: one request for each path of a file, in order, from a given line on; then again from the top.
-- It prints one line of figures that tests/bench/load.py reads.

function init(args)
  local method = args[1]
  paths, position = {}, tonumber(args[3])
  for path in io.lines(args[2]) do
    paths[#paths + 1] = path
  end
  local head = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n"
  if method == "GET" then
    before, after = "GET ", head .. "Accept: text/html\r\n\r\n"
  else
    local body = "List-Unsubscribe=One-Click"
    if method == "FORM" then
      body, head = "intent=all", head .. "Accept: text/html\r\n"
    end
    head = head .. "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " .. #body .. "\r\n"
    before, after = "POST ", head .. "\r\n" .. body
  end
end

function request()
  local path = paths[position % #paths + 1]
  position = position + 1
  return before .. path .. after
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
