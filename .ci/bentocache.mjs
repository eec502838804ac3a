// What BentoCache costs beside the least that each of its parts could cost, as `bench --only cache` asks of ours: node and npm only.
// Usage: bentocache.mjs <port of Redis> <rounds>; prints a table in Markdown.
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis'
import { Redis } from 'ioredis'

const [port, rounds] = process.argv.slice(2).map(Number)
const HITS = 100_000
const IN_REDIS = 5_000
const AT_ONCE = 64
const connection = { host: '127.0.0.1', port }

const cache = () =>
  new BentoCache({
    default: 'multi',
    stores: {
      multi: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 20_000, serialize: false }))
        .useL2Layer(redisDriver({ connection }))
        .useBus(redisBusDriver({ connection })),
    },
  })

const [one, other, bare] = [cache(), cache(), new Redis(connection)]
const keys = Array.from({ length: 1_000 }, (_, number) => `article-${number}`)
const text = 'x'.repeat(100)
const never = () => {
  throw new Error('this is to be a hit')
}

async function perSecond(count, work) {
  const begun = process.hrtime.bigint()
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, worker))
  return count / (Number(process.hrtime.bigint() - begun) / 1e9)
}

async function inARow(work) {
  const begun = process.hrtime.bigint()
  for (let number = 0; number < HITS; number++) await work(keys[number % keys.length])
  return HITS / (Number(process.hrtime.bigint() - begun) / 1e9)
}

const plain = new Map(keys.map((key) => [key, 1]))
const parts = [
  {
    name: 'hit in memory, of a bare Map behind an await',
    before: async () => {
      for (const key of keys) await one.getOrSet({ key, ttl: '5m', factory: () => 1 })
    },
    ours: () => inARow((key) => one.getOrSet({ key, ttl: '5m', factory: never })),
    theirs: () => inARow(async (key) => plain.get(key)),
  },
  {
    name: 'hit in Redis, of a bare GET',
    before: async (round) => {
      for (let number = 0; number < IN_REDIS; number++) {
        await one.getOrSet({ key: `${round}:${number}`, ttl: '5m', factory: () => text })
        await bare.set(`bare:${round}:${number}`, text)
      }
    },
    ours: (round) =>
      perSecond(IN_REDIS, (number) =>
        other.getOrSet({ key: `${round}:${number}`, ttl: '5m', factory: never }),
      ),
    theirs: (round) => perSecond(IN_REDIS, (number) => bare.get(`bare:${round}:${number}`)),
  },
  {
    name: 'delete on all nodes, of a bare PUBLISH',
    before: async () => {},
    ours: (round) => perSecond(IN_REDIS, (number) => one.delete({ key: `${round}:${number}` })),
    theirs: (round) => perSecond(IN_REDIS, (number) => bare.publish('bare', `${round}:${number}`)),
  },
]

const median = (values) => values.sort((one, other) => one - other)[Math.floor(values.length / 2)]

console.log('| BentoCache | per second | of the other | ratio |\n|---|--:|--:|--:|')
for (const part of parts) {
  const measured = []
  for (let round = 0; round < rounds; round++) {
    await part.before(round)
    const theirsFirst = round % 2 === 1 ? await part.theirs(round) : undefined
    const ours = await part.ours(round)
    measured.push([ours, theirsFirst ?? (await part.theirs(round))])
  }
  const of = (figure) => median(measured.map(figure))
  const [ours, theirs, ratio] = [
    of(([rate]) => rate),
    of(([, rate]) => rate),
    of(([rate, floor]) => rate / floor),
  ]
  console.log(`| ${part.name} | ${ours.toFixed(0)} | ${theirs.toFixed(0)} | ${ratio.toFixed(2)} |`)
}
await Promise.all([one.disconnectAll(), other.disconnectAll(), bare.quit()])
