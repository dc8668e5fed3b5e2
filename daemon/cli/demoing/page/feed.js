/* What the demo pages share: cards of events, and the log's stream. */
window.demo = (() => {
  'use strict';

  const CARDS_MAX = 200;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const say = (id, value) => { document.getElementById(id).textContent = value; };

  const time = (moment) => {
    const date = new Date(moment);
    return date.toLocaleTimeString([], { hour12: false }) + '.' + String(date.getMilliseconds()).padStart(3, '0');
  };

  /** A card on top of the column `list`; cards of the same `id` light up together. Gives its parts that change. */
  const addCard = (list, { id, kind, name, facts, state }, event) => {
    const feed = document.getElementById(list);
    const item = element('li');
    const details = element('details', 'event');
    const summary = element('summary');
    const badge = element('span', 'state', state);
    const line = element('span', 'facts', facts.filter(Boolean).join('  '));
    summary.append(element('span', 'kind', kind), element('span', 'name', name), badge, line);
    details.append(summary);
    details.addEventListener('toggle', () => {
      if (details.open && details.children.length === 1) details.append(pretty(event));
    });
    const light = (on) => document.querySelectorAll('[data-id="' + CSS.escape(id) + '"]').forEach((one) => one.classList.toggle('linked', on));
    details.dataset.id = id;
    details.addEventListener('mouseenter', () => light(true));
    details.addEventListener('mouseleave', () => light(false));
    item.append(details);
    const empty = feed.querySelector('.empty');
    if (empty) empty.remove();
    feed.prepend(item);
    while (feed.children.length > CARDS_MAX) feed.lastElementChild.remove();
    return { details, state: badge };
  };

  const pretty = (value) => {
    const block = element('pre');
    const text = JSON.stringify(value, null, 2);
    const token = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/g;
    let at = 0;
    for (const found of text.matchAll(token)) {
      block.append(text.slice(at, found.index));
      const kind = found[2] !== undefined ? 'k' : found[1] !== undefined ? 's' : 'n';
      block.append(element('span', kind, found[1] || found[0]), found[2] || '');
      at = found.index + found[0].length;
    }
    block.append(text.slice(at));
    return block;
  };

  /** Follow the log: `take` gets each envelope of `contract` once, with its place. */
  const follow = (contract, take) => {
    const arrived = new Set();
    const stream = new EventSource('/log');
    const dot = document.getElementById('stream');
    const text = (on, words) => {
      dot.classList.toggle('on', on);
      say('stream-text', words);
    };
    stream.addEventListener('open', () => text(true, 'following'));
    stream.addEventListener('error', () => text(false, 'the demo has ended'));
    stream.addEventListener('trouble', (message) => text(false, JSON.parse(message.data).message));
    stream.addEventListener('envelope', (message) => {
      const { place, envelope } = JSON.parse(message.data);
      // after a break the stream begins with what was there
      if (arrived.has(envelope.id) || envelope.contract !== contract) return;
      arrived.add(envelope.id);
      text(true, 'following');
      take(envelope, place);
    });
  };

  return { addCard, follow, say, time };
})();
