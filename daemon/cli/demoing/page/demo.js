/* The demo page: buttons that call the SDK, what it sends (by looking over fetch's shoulder), what the log received. */
(() => {
  'use strict';

  const { addCard, follow, say, time } = window.demo;
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

  const makeCard = (list, event, state) => {
    const page = (event.context && event.context.page) || {};
    const names = { identify: event.userId, group: event.groupId, page: event.name || (page.path || '') + (page.search || '') };
    const name = event.event || names[event.type] || '';
    const user = event.userId && 'user ' + event.userId;
    const facts = list === 'sent'
      ? [time(event.timestamp), user, event.messageId]
      : [time(event.receivedAt), user, 'visitor ' + (event.anonymousId || '')];
    return addCard(list, { id: event.messageId, kind: event.type, name, facts, state }, event);
  };

  const tell = () => {
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
    follow('datafly', (envelope, place) => {
      counts.log += 1;
      makeCard('log', envelope, place).state.classList.add('good');
      tell();
    });
    setInterval(tell, 1000);
  });
})();
