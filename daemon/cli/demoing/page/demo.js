/* The demo page: buttons that call the SDK, what it sends (by looking over fetch's shoulder), what the log received. */
(() => {
  'use strict';

  const CARDS_MAX = 200;
  const gateway = document.currentScript.dataset.gateway;
  const consent = 'demo-consent';
  try {
    if (localStorage.getItem(consent) === null) localStorage.setItem(consent, 'granted');
  } catch (error) {
    // blocked: the SDK says so, too
  }
  // Calls before the SDK is there are kept in an array.
  window._df = window._df || [];
  const call = (...words) => window._df.push(words);

  /* ---- what the SDK sends ---- */

  let offline = false;
  const cards = new Map(); // messageId → card
  const arrived = new Set(); // messageIds that the log has shown
  const counts = { sent: 0, tries: 0, log: 0 };

  const realFetch = window.fetch;
  window.fetch = async (address, options) => {
    if (!String(address).startsWith(gateway + '/v1/')) return realFetch(address, options);
    const card = sentCard(JSON.parse(options.body));
    const started = performance.now();
    card.tries += 1;
    counts.tries += 1;
    show(card, 'wait', 'on its way');
    try {
      if (offline) throw new TypeError('offline, as the button says');
      const reply = await realFetch(address, options);
      const took = Math.max(1, Math.round(performance.now() - started));
      const more = reply.headers.get('X-Headgate-Duplicate') ? 'known already' : reply.headers.get('X-Headgate-Durability') || '';
      card.done = reply.ok;
      show(card, reply.ok ? 'good' : 'bad', [reply.status, more, took + ' ms'].filter(Boolean).join(', '));
      return reply;
    } catch (error) {
      show(card, 'bad', offline ? 'offline, kept' : 'no answer, kept');
      throw error;
    }
  };

  const sentCard = (event) => {
    let card = cards.get(event.messageId);
    if (!card) {
      card = makeCard('sent', event, '');
      card.tries = 0;
      cards.set(event.messageId, card);
      counts.sent += 1;
    }
    return card;
  };

  const show = (card, kind, text) => {
    card.state.className = 'state ' + kind;
    card.state.textContent = card.tries > 1 ? text + ', try ' + card.tries : text;
    tell();
  };

  /* ---- cards ---- */

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const makeCard = (list, event, state) => {
    const feed = document.getElementById(list);
    const item = element('li');
    const details = element('details', 'event');
    const summary = element('summary');
    const page = (event.context && event.context.page) || {};
    const names = { identify: event.userId, group: event.groupId, page: event.name || (page.path || '') + (page.search || '') };
    const name = event.event || names[event.type] || '';
    const badge = element('span', 'state', state);
    const facts = element('span', 'facts', factsOf(list, event));
    summary.append(element('span', 'kind', event.type), element('span', 'name', name), badge, facts);
    details.append(summary);
    details.addEventListener('toggle', () => {
      if (details.open && details.children.length === 1) details.append(pretty(event));
    });
    const light = (on) => document.querySelectorAll('[data-id="' + event.messageId + '"]').forEach((one) => one.classList.toggle('linked', on));
    details.dataset.id = event.messageId;
    details.addEventListener('mouseenter', () => light(true));
    details.addEventListener('mouseleave', () => light(false));
    item.append(details);
    const empty = feed.querySelector('.empty');
    if (empty) empty.remove();
    feed.prepend(item);
    while (feed.children.length > CARDS_MAX) feed.lastElementChild.remove();
    return { details, state: badge, facts };
  };

  const factsOf = (list, event) => {
    const time = (text) => new Date(text).toLocaleTimeString([], { hour12: false }) + '.' + String(new Date(text).getMilliseconds()).padStart(3, '0');
    if (list === 'sent') return [time(event.timestamp), event.userId && 'user ' + event.userId, event.messageId].filter(Boolean).join('  ');
    return [time(event.receivedAt), event.userId && 'user ' + event.userId, 'visitor ' + (event.anonymousId || '')].filter(Boolean).join('  ');
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

  const tell = () => {
    const say = (id, value) => { document.getElementById(id).textContent = value; };
    say('sent-count', counts.sent);
    say('tries-count', counts.tries);
    say('log-count', counts.log);
    say('waiting-count', waiting());
  };

  /** How many events the SDK keeps in the store at the moment. */
  const waiting = () => {
    try {
      return Object.keys(localStorage).filter((name) => name.startsWith('_df.'))
        .reduce((sum, name) => sum + JSON.parse(localStorage.getItem(name))[1].length, 0);
    } catch (error) {
      return 0;
    }
  };

  /* ---- what the log received ---- */

  const follow = () => {
    const stream = new EventSource('/log');
    const dot = document.getElementById('stream');
    const text = document.getElementById('stream-text');
    stream.addEventListener('open', () => {
      dot.classList.add('on');
      text.textContent = 'following';
    });
    stream.addEventListener('error', () => {
      dot.classList.remove('on');
      text.textContent = 'the demo has ended';
    });
    stream.addEventListener('trouble', (message) => {
      dot.classList.remove('on');
      text.textContent = JSON.parse(message.data).message;
    });
    stream.addEventListener('envelope', (message) => {
      const { place, envelope } = JSON.parse(message.data);
      if (arrived.has(envelope.id)) return; // after a break the stream begins with what was there
      arrived.add(envelope.id);
      counts.log += 1;
      dot.classList.add('on');
      text.textContent = 'following';
      const card = makeCard('log', envelope, place);
      card.state.classList.add('good');
      tell();
    });
  };

  /* ---- the page's own life ---- */

  document.addEventListener('DOMContentLoaded', () => {
    const on = (id, work) => document.getElementById(id).addEventListener('click', work);
    const cart = [];
    let views = 0;

    document.querySelectorAll('.product').forEach((product) => {
      const { sku, name, price } = product.dataset;
      const item = { sku, name, price: Number(price), currency: 'EUR' };
      product.querySelector('[data-act=view]').addEventListener('click', () => call('track', 'Product Viewed', item));
      product.querySelector('[data-act=add]').addEventListener('click', () => {
        cart.push(item);
        document.getElementById('cart').textContent = cart.length;
        call('track', 'Product Added', Object.assign({ quantity: 1 }, item));
      });
    });
    on('checkout', () => {
      const total = Math.round(cart.reduce((sum, item) => sum + item.price, 0) * 100) / 100;
      call('track', 'Order Completed', { orderId: 'demo-' + Date.now(), total, currency: 'EUR', products: cart.splice(0) });
      document.getElementById('cart').textContent = 0;
    });
    on('page', () => call('page', 'Demo'));
    on('track', () => call('track', 'Button Clicked', { label: 'track' }));
    on('identify', () => call('identify', 'user-42', { name: 'Ada', plan: 'pro' }));
    on('group', () => call('group', 'company-7', { name: 'Example Ltd', seats: 12 }));
    on('reset', () => call('reset'));
    on('push', () => {
      views += 1;
      history.pushState({}, '', '/?view=' + views);
    });
    on('back', () => history.back());
    on('network', (event) => {
      offline = !offline;
      event.target.setAttribute('aria-pressed', offline);
      event.target.textContent = offline ? 'go online' : 'go offline';
      if (!offline) dispatchEvent(new Event('online'));
    });
    const choice = document.getElementById('consent');
    choice.addEventListener('change', () => localStorage.setItem(consent, choice.value));
    try {
      choice.value = localStorage.getItem(consent);
    } catch (error) {
      choice.disabled = true;
    }
    follow();
    setInterval(tell, 1000);
  });
})();
