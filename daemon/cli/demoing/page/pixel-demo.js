/* The pixel's page: buttons that call it, the beacons that it sends, what the log received. */
(() => {
  'use strict';

  const { addCard, follow, say, time } = window.demo;
  const endpoint = document.currentScript.dataset.gateway + '/v1/browser/events';
  const consent = 'demo-ad-storage';
  // A beacon's answer can't be seen: the log has to show the event within this time.
  const PATIENCE_MS = 5000;

  const remembered = () => {
    try {
      return localStorage.getItem(consent) || 'granted';
    } catch (error) {
      return 'granted';
    }
  };

  // Calls before the pixel is there are kept in its queue.
  window.tracklayer = window.tracklayer || { q: [] };
  const call = (...words) => window.tracklayer.q.push(words);
  call('consent', { ad_storage: remembered() });

  /* ---- what the pixel sends ---- */

  let offline = false;
  const cards = new Map(); // event_id → card
  const counts = { sent: 0, log: 0 };

  Object.defineProperty(navigator, 'onLine', { get: () => !offline });
  const realBeacon = navigator.sendBeacon.bind(navigator);
  navigator.sendBeacon = (address, body) => {
    const taken = realBeacon(address, body);
    if (address === endpoint) whole(() => sent(JSON.parse(body)));
    return taken;
  };

  /** The pixel may be there before the page's columns are. */
  const whole = (work) => {
    if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', work);
    else work();
  };

  const show = (card, kind, text) => {
    card.state.className = 'state ' + kind;
    card.state.textContent = text;
  };

  const sent = (event) => {
    const ids = (event.user_data || {}).browser_ids || {};
    const facts = [time(Date.now()), event.event_id, ids.fbc];
    const card = addCard('sent', { id: event.event_id, kind: 'event', name: event.event_name, facts, state: '' }, event);
    cards.set(event.event_id, card);
    counts.sent += 1;
    say('sent-count', counts.sent);
    show(card, 'wait', 'on its way');
    setTimeout(() => {
      if (card.state.classList.contains('wait')) show(card, 'bad', 'not on the log: over 30 in a minute?');
    }, PATIENCE_MS);
  };

  const received = (envelope, place) => {
    const facts = [time(envelope.receivedAt), envelope.messageId, envelope.currency && envelope.value + ' ' + envelope.currency];
    const card = addCard('log', { id: envelope.messageId, kind: envelope.channel, name: envelope.event, facts, state: place }, envelope);
    card.state.classList.add('good');
    counts.log += 1;
    say('log-count', counts.log);
    if (cards.has(envelope.messageId)) show(cards.get(envelope.messageId), 'good', 'on the log');
  };

  /* ---- the page's own life ---- */

  document.addEventListener('DOMContentLoaded', () => {
    const on = (id, work) => document.getElementById(id).addEventListener('click', work);
    const cart = [];
    let views = 0;
    const value = (items) => Math.round(items.reduce((sum, item) => sum + item.price, 0) * 100) / 100;

    document.querySelectorAll('.product').forEach((product) => {
      const { sku, name, price } = product.dataset;
      const item = { id: sku, name, price: Number(price), quantity: 1 };
      const data = { value: item.price, currency: 'EUR', items: [item] };
      product.querySelector('[data-act=view]').addEventListener('click', () => call('track', 'ViewContent', data));
      product.querySelector('[data-act=add]').addEventListener('click', () => {
        cart.push(item);
        say('cart', cart.length);
        call('track', 'AddToCart', data);
      });
    });
    on('checkout', () => {
      const order = 'demo-' + Date.now();
      // the id that the shop's server would send its copy with
      call('track', 'Purchase', { event_id: 'order-' + order, order_id: order, value: value(cart), currency: 'EUR', items: cart.splice(0) });
      say('cart', 0);
    });
    on('track', () => call('track', 'Lead', { label: 'track' }));
    on('identify', () => call('identify', { email: 'ada@example.com', first_name: 'Ada', customer_id: 'user-42' }));
    on('push', () => {
      views += 1;
      history.pushState({}, '', '/pixel?view=' + views);
    });
    on('back', () => history.back());
    on('click', () => { location.href = '/pixel?fbclid=Demo-' + Date.now().toString(36); });
    on('network', (event) => {
      offline = !offline;
      event.target.setAttribute('aria-pressed', offline);
      event.target.textContent = offline ? 'go online' : 'go offline';
      if (!offline) dispatchEvent(new Event('online'));
    });
    const choice = document.getElementById('consent');
    choice.value = remembered();
    choice.addEventListener('change', () => {
      call('consent', { ad_storage: choice.value });
      try {
        localStorage.setItem(consent, choice.value);
      } catch (error) {
        // blocked: it holds for this page
      }
    });
    follow('tracklayer', received);
  });
})();
