// Sends what it reads from standard input with Segment's SDK, as an application would:
//   {"sdk", "host", "writeKey", "flushAt", "calls": [[method, message], …]}
// Prints {"errors": […]} once all is flushed.
import { readFileSync } from 'node:fs'

const { sdk, host, writeKey, flushAt, calls } = JSON.parse(readFileSync(0, 'utf8'))
const { Analytics } = await import(sdk)
const errors = []
const analytics = new Analytics({ host, writeKey, flushAt, maxRetries: 0 })
analytics.on('error', (error) => errors.push(`${error.code}: ${error.reason}`))
for (const [method, message] of calls) {
  if (message.timestamp) message.timestamp = new Date(message.timestamp)
  analytics[method](message)
}
await analytics.closeAndFlush({ timeout: 20000 })
console.log(JSON.stringify({ errors }))
