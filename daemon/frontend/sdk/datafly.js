/*! datafly.js – sends page views and events to a Headgate gateway. See docs/sdk.md. */
(() => {
  'use strict';

  const VERSION = '1.0.0';
  const SESSION_ID = '_df.id';
  const PATHS = { track: 't', page: 'p', identify: 'i', group: 'g' };

  // The gateway knows a messageId for 24 hours: nothing older is sent, as a copy would not be recognised.
  const QUEUE_EVENTS_MAX = 200;
  const QUEUE_CHARS_MAX = 256 * 1024;
  const AGE_MAX_MS = 24 * 3600 * 1000;
  const HELD_MAX = 100;

  const BACKOFF_MIN_MS = 1000;
  const BACKOFF_MAX_MS = 5 * 60 * 1000;
  const RETRY_AFTER_MAX_MS = 10 * 60 * 1000;
  const TIMEOUT_MS = 30 * 1000;
  // A live tab touches its queue at each attempt.
  const STALE_MS = 20 * 60 * 1000;
  const POLL_MS = 500;
  // Browsers allow 64 KiB in all keepalive requests together.
  const KEEPALIVE_CHARS_MAX = 16 * 1024;
  const LEAVE_EVENTS_MAX = 50;

  const warn = (text) => window.console && console.warn('datafly.js: ' + text);

  /** For all that the page or the browser calls: never throws. */
  const guard = (work) => (...args) => {
    try {
      work(...args);
    } catch (error) {
      warn(error);
    }
  };

  const script = document.currentScript || document.querySelector('script[data-pipeline-key]');
  const option = (name) => (script && script.getAttribute('data-' + name)) || '';
  const globalName = option('global') || '_df';
  const key = option('pipeline-key');
  const automatic = option('page') !== 'manual';

  const before = window[globalName];
  if (before && before.version) return; // included twice

  /* ---- small things ---- */

  const uuid = () => {
    const source = window.crypto || {};
    if (source.randomUUID) return source.randomUUID();
    const bytes = new Uint8Array(16);
    if (source.getRandomValues) source.getRandomValues(bytes);
    else for (let i = 0; i < 16; i++) bytes[i] = Math.random() * 256;
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  };

  const plain = (value) => (value && typeof value === 'object' && !Array.isArray(value) ? value : undefined);

  /** Where the browser allows none, looking at it throws. */
  const storage = (name) => {
    try {
      window[name].getItem('_df');
      return window[name];
    } catch (error) {
      return null;
    }
  };
  let store = storage('localStorage');
  const session = storage('sessionStorage');

  const cookie = (name) => {
    let all = '';
    try {
      all = '; ' + document.cookie;
    } catch (error) {
      return undefined; // a sandboxed frame
    }
    const found = all.split('; ' + name + '=')[1];
    return found === undefined ? undefined : decoded(found.split(';')[0]);
  };

  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return text;
    }
  };

  const local = (name) => {
    const value = store && store.getItem(name);
    return value === null ? undefined : value;
  };

  const json = (text) => {
    try {
      return plain(JSON.parse(text));
    } catch (error) {
      return undefined;
    }
  };

  /* ---- consent: decided, an object; null while the visitor has not; undefined without a sign of it ---- */

  const choice = (analytics, marketing, functional, advertising) => ({
    analytics: !!analytics, marketing: !!marketing, functional: !!functional, advertising: !!advertising,
  });
  const everything = (value) => choice(value, value, value, value);

  const YES = /^(granted|accept(ed)?|allow(ed)?|all|true|yes|1)$/i;

  /** A page's own words: granted, denied, a list of categories, an object. */
  const ownWords = (value) => {
    const object = plain(value) || json(value);
    if (object) {
      const on = (name) => YES.test(object[name]);
      return choice(on('analytics'), on('marketing'), on('functional'), on('advertising'));
    }
    const text = String(value).trim().toLowerCase();
    if (!text) return null;
    if (YES.test(text)) return everything(true);
    const listed = /^[a-z]+([ ,|+]+[a-z]+)*$/.test(text) ? text.split(/[ ,|+]+/) : [];
    const on = (name) => listed.includes(name);
    return choice(on('analytics'), on('marketing'), on('functional'), on('advertising'));
  };

  /** The IAB's purposes. */
  const purposes = (on) =>
    choice(on(1) && on(8), on(1) && on(3) && on(4), on(1), on(1) && on(2) && on(7));

  let tcfChoice; // undefined until the API is asked

  const READERS = {
    onetrust() {
      const groups = /groups=([^&]*)/.exec(cookie('OptanonConsent'));
      if (!groups) return window.OneTrust ? null : undefined;
      const on = (id) => groups[1].includes(id + ':1');
      const found = choice(on('C0002'), on('C0004'), on('C0003'), on('C0004'));
      // Before the visitor decides the cookie says what holds until then.
      return found.analytics || cookie('OptanonAlertBoxClosed') !== undefined ? found : null;
    },

    cookiebot() {
      const text = cookie('CookieConsent');
      if (text === '-1') return everything(true); // a region where nobody has to be asked
      if (text === '0') return everything(false);
      if (!text || !text.includes('statistics:')) return window.Cookiebot ? null : undefined;
      const on = (name) => text.includes(name + ':true');
      return choice(on('statistics'), on('marketing'), on('preferences'), on('marketing'));
    },

    didomi() {
      let token;
      try {
        token = json(atob((cookie('didomi_token') || local('didomi_token')).replace(/-/g, '+').replace(/_/g, '/')));
      } catch (error) {
        token = undefined;
      }
      if (!token) return window.Didomi || window.didomiConfig ? null : undefined;
      const { enabled = [], disabled = [] } = token.purposes || {};
      // Sites name their purposes themselves: their words count, where none fits, whether all are enabled.
      const on = (words) => {
        const fits = (name) => words.test(name);
        return !disabled.some(fits) && (enabled.some(fits) || (enabled.length > 0 && !disabled.length));
      };
      return choice(
        on(/analy|audien|measure|mesure|statis/i), on(/market|profil|personal/i), on(/function|fonction|prefer|experien/i),
        on(/(^|[-_])ads?([-_]|$)|advert|publicit|target|market/i)
      );
    },

    osano() {
      // Encrypted, for Osano's own script; that it is there means a decision.
      const kept = cookie('osano_consentmanager') || local('osano_consentmanager');
      const manager = window.Osano && window.Osano.cm;
      const said = manager && manager.getConsent ? manager.getConsent() : json(kept);
      if (!said) return kept || window.Osano ? null : undefined;
      const on = (name) => said[name] === 'ACCEPT';
      const found = choice(on('ANALYTICS'), on('MARKETING'), on('PERSONALIZATION'), on('MARKETING'));
      return kept || found.analytics ? found : null;
    },

    tcf() {
      if (typeof window.__tcfapi === 'function') {
        if (tcfChoice === undefined) {
          tcfChoice = null;
          window.__tcfapi('addEventListener', 2, guard((data, success) => {
            if (!success) return;
            const consents = (data.purpose || {}).consents || {};
            const ended = data.eventStatus === 'tcloaded' || data.eventStatus === 'useractioncomplete';
            if (data.gdprApplies === false) tcfChoice = everything(true);
            else tcfChoice = ended ? purposes((n) => consents[n]) : null;
            decide();
          }));
        }
        return tcfChoice;
      }
      const text = cookie('euconsent-v2');
      if (!text) return undefined;
      // base64url; consent to purpose n is bit 151 + n.
      const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
      return purposes((n) => {
        const bit = 151 + n;
        return (digits.indexOf(text[Math.floor(bit / 6)]) >> (5 - (bit % 6))) & 1;
      });
    },
  };

  /** The first consent manager that shows on the page. */
  const whichever = () => {
    for (const name of Object.keys(READERS)) {
      const found = READERS[name]();
      if (found !== undefined) return found;
    }
    return undefined;
  };

  const consentOption = option('consent').trim();
  const [consentKind, consentName] = consentOption.split(/:(.*)/);
  let ownChoice; // what the page said by consent()

  const consent = () => {
    if (document.prerendering) return null;
    if (ownChoice) return ownChoice;
    if (!consentOption) return whichever();
    let found;
    if (consentKind === 'granted' || consentKind === 'denied') found = ownWords(consentKind);
    else if (consentKind === 'auto') found = whichever();
    else if (consentKind === 'cookie') found = ownWords(cookie(consentName) || '');
    else if (consentKind === 'local') found = ownWords(local(consentName) || '');
    else if (READERS[consentKind]) found = READERS[consentKind]();
    return found === undefined ? null : found;
  };

  let watching = 0;
  let forgotten = false;

  /** Release what was held, forget it, or look again in a moment. */
  const decide = () => {
    const now = consent();
    if (now === null) {
      if (!watching) watching = setInterval(guard(decide), POLL_MS);
      return;
    }
    clearInterval(watching);
    watching = 0;
    if (now && !now.analytics) {
      forget();
      return;
    }
    forgotten = false;
    held.splice(0).forEach((event) => enqueue(event, now));
    adopt();
    pump();
  };

  /** Denied: nothing stays. */
  const forget = () => {
    held.length = queue.length = 0;
    if (forgotten) return;
    forgotten = true;
    kept = false;
    stored().forEach((name) => store.removeItem(name));
    if (session) session.removeItem(SESSION_ID);
  };

  /* ---- the queue ----
   * Each tab keeps its own in localStorage: [touched, [[path, body, time], …]]. When left, touched is 0; the next
   * page takes it over, also one that nobody touched for long.
   */

  const prefix = '_df.' + key.slice(-8) + '.';
  const ownName = prefix + uuid().slice(0, 8);
  const held = []; // events that wait for consent, in memory only
  const queue = []; // {path, body, time, tries, busy}
  let kept = false; // whether our queue is in the store
  let busy = 0;
  let failures = 0;
  let resumeAt = 0; // by performance.now()
  let imposed = false; // by the gateway's Retry-After
  let timer = 0;
  let refused = false;
  let gone = false; // the page was left

  const stored = () => {
    try {
      return store ? Object.keys(store).filter((name) => name.startsWith(prefix)) : [];
    } catch (error) {
      return [];
    }
  };

  const save = () => {
    if (!store) return;
    try {
      if (queue.length) {
        const entries = queue.map((entry) => [entry.path, entry.body, entry.time]);
        store.setItem(ownName, JSON.stringify([gone ? 0 : Date.now(), entries]));
      } else if (kept) {
        store.removeItem(ownName);
      }
      kept = queue.length > 0;
    } catch (error) {
      kept = false; // full: what is in memory is sent all the same
      try {
        store.removeItem(ownName);
      } catch (again) {
        store = null;
      }
    }
  };

  /** Whether the queue is still ours: another tab may have taken it, or the visitor cleared the site's data. */
  const check = () => {
    if (!kept || store.getItem(ownName) !== null) return;
    kept = false;
    queue.length = 0;
  };

  const trim = () => {
    const oldest = Date.now() - AGE_MAX_MS;
    let chars = queue.reduce((sum, entry) => sum + entry.body.length, 0);
    const full = () => queue.length > QUEUE_EVENTS_MAX || (chars > QUEUE_CHARS_MAX && queue.length > 1);
    while (queue.length && (queue[0].time < oldest || full())) chars -= queue.shift().body.length;
  };

  /** Take over what other pages left, under a lock where there is one: two tabs must not. */
  const adopt = () => {
    const take = () => {
      const found = [];
      stored().forEach((name) => {
        if (name === ownName) return;
        try {
          const [touched, entries] = JSON.parse(store.getItem(name));
          if (touched && Math.abs(Date.now() - touched) < STALE_MS) return;
          store.removeItem(name);
          entries.forEach(([path, body, time]) => found.push({ path, body, time, tries: 0 }));
        } catch (error) {
          store.removeItem(name);
        }
      });
      if (!found.length) return;
      queue.push(...found);
      queue.sort((one, other) => one.time - other.time);
      trim();
      save();
      pump();
    };
    if (!stored().some((name) => name !== ownName)) return;
    const locks = navigator.locks;
    if (!locks) take();
    // Held a little longer than needed: other tabs see a removal a moment later.
    else locks.request(prefix, () => new Promise((done) => {
      guard(take)();
      setTimeout(done, 200);
    })).catch(guard(take));
  };

  const enqueue = (event, agreed) => {
    if (agreed) event.context.consent = agreed;
    // Half a character (of a cut text) is refused by the gateway.
    const body = JSON.stringify(event).replace(/\\(\\|ud[89a-f]..)/g, (all, what) => (what === '\\' ? all : '\\ufffd'));
    check();
    guard(() => session && session.setItem(SESSION_ID, event.anonymousId))();
    queue.push({ path: PATHS[event.type], body, time: Date.now(), tries: 0 });
    trim();
    save();
  };

  const endpoint = (option('endpoint') || (script && script.src && new URL(script.src).origin) || '').replace(/\/+$/, '');
  // The key in the address and a body of text/plain need no preflight, and sendBeacon can send them. It is no secret.
  const address = (entry) => endpoint + '/v1/' + entry.path + '?wk=' + encodeURIComponent(key);
  const canKeepAlive = 'Request' in window && 'keepalive' in Request.prototype;

  /** One at a time: order holds, and the first answer's cookies go with the second event. */
  const pump = () => {
    clearTimeout(timer);
    if (busy || !queue.length) return;
    const now = consent();
    if (now === null) return;
    if (now && !now.analytics) {
      forget();
      return;
    }
    check();
    trim();
    const wait = resumeAt - performance.now();
    if (wait > 0) timer = setTimeout(guard(pump), wait);
    else if (queue.length) transmit(queue[0]);
  };

  const transmit = (entry) => {
    entry.busy = true;
    busy++;
    const control = window.AbortController ? new AbortController() : {};
    const limit = setTimeout(() => control.abort && control.abort(), TIMEOUT_MS);
    const ended = guard((status, retryAfter) => {
      clearTimeout(limit);
      busy--;
      entry.busy = false;
      if (!status || status === 408 || status === 429 || status >= 500) postpone(entry, status, retryAfter);
      else {
        failures = resumeAt = 0;
        const at = queue.indexOf(entry);
        if (at >= 0) queue.splice(at, 1);
        if (status >= 400 && !refused) {
          refused = true;
          warn('the gateway refused an event with ' + status);
        }
      }
      save();
      pump();
    });
    const options = {
      method: 'POST',
      body: entry.body,
      credentials: 'include',
      keepalive: entry.body.length <= KEEPALIVE_CHARS_MAX,
      signal: control.signal,
    };
    new Promise((done) => done(fetch(address(entry), options))).then((reply) => ended(reply.status, reply.headers.get('Retry-After')), () => ended(0));
  };

  const postpone = (entry, status, retryAfter) => {
    failures++;
    const asked = Math.min(retryAfter * 1000 || 0, RETRY_AFTER_MAX_MS);
    imposed = asked > 0;
    const backoff = Math.min(BACKOFF_MIN_MS * 2 ** (failures - 1), BACKOFF_MAX_MS);
    // Those who were turned away together should not come back together.
    resumeAt = performance.now() + (imposed ? asked * (1 + Math.random() / 4) : backoff * (0.5 + Math.random() / 2));
    entry.tries++;
    const at = queue.indexOf(entry);
    // An event that never gets through must not stop those behind it.
    if (entry.tries % 3 === 0 && at >= 0) queue.push(queue.splice(at, 1)[0]);
  };

  /**
   * The page may be gone the next moment: send all that waits. Whose answer is not seen stays in the store, and is
   * sent again by the next page: the gateway knows its messageId.
   */
  const leave = () => {
    settle();
    if (watching) decide();
    if (navigator.onLine !== false && !(imposed && resumeAt > performance.now())) {
      const now = consent();
      const few = now === null || (now && !now.analytics) ? 0 : failures ? 3 : LEAVE_EVENTS_MAX;
      queue.slice(0, few).forEach((entry) => {
        if (gone && !canKeepAlive && navigator.sendBeacon) navigator.sendBeacon(address(entry), entry.body);
        else if (!entry.busy) transmit(entry);
      });
    }
    save();
  };

  /* ---- events ---- */

  // Counts where there is no cookie: before the first answer, also on the next page of a quick visitor.
  let anonymousId = (session && session.getItem(SESSION_ID)) || uuid();
  let userId;
  let traits = {};
  let campaign;
  let referrer = document.referrer;

  /** The page's address; a fragment counts where it is a route. */
  const here = () => location.href.split('#')[0] + (/^#!?\//.test(location.hash) ? location.hash : '');
  let current = here();

  const page = () => {
    const { pathname, search } = new URL(current);
    return { url: current, path: pathname, search, title: document.title, referrer };
  };

  const context = () => {
    const utm = {};
    new URL(current).searchParams.forEach((value, name) => {
      if (name.startsWith('utm_')) utm[name === 'utm_campaign' ? 'name' : name.slice(4)] = value;
    });
    if (Object.keys(utm).length) campaign = utm;
    return {
      page: page(),
      campaign,
      locale: navigator.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      screen: { width: screen.width, height: screen.height, density: window.devicePixelRatio },
      userAgent: navigator.userAgent,
      library: { name: 'datafly.js', version: VERSION },
    };
  };

  const send = (type, fields) => {
    if (!key || !endpoint) return;
    const now = consent();
    if (now && !now.analytics) {
      forget();
      return;
    }
    const common = {
      type, messageId: uuid(), timestamp: new Date().toISOString(), userId, anonymousId, context: context(),
    };
    // A copy: the page may change its objects.
    const event = JSON.parse(JSON.stringify(Object.assign(common, fields)));
    if (now === null) {
      held.push(event);
      if (held.length > HELD_MAX) held.shift();
      decide();
    } else {
      enqueue(event, now);
      pump();
    }
  };

  /* ---- page views ---- */

  let due = automatic; // true after a load, 'moved' after a navigation inside the page

  /** Send the view that is due, before what follows it. */
  const settle = () => {
    if (due) viewed();
  };

  const viewed = (name, properties) => {
    due = false;
    send('page', { name, properties: Object.assign(page(), plain(properties)) });
  };

  /** Sent a moment later: routers set the title, or redirect, after it. */
  const moved = guard(() => {
    const now = here();
    if (now === current) return;
    if (due !== 'moved') {
      settle();
      referrer = current;
    }
    current = now;
    due = automatic && 'moved';
    setTimeout(guard(settle));
  });

  const watchHistory = () => {
    ['pushState', 'replaceState'].forEach((name) => {
      const original = history[name];
      history[name] = function () {
        const result = original.apply(this, arguments);
        moved();
        return result;
      };
    });
    addEventListener('popstate', moved);
    addEventListener('hashchange', moved);
  };

  /* ---- what the page calls ---- */

  const methods = {
    track(event, properties) {
      settle();
      if (event) send('track', { event: String(event), properties: plain(properties) });
      else warn('track() needs the name of an event');
    },

    page(name, properties) {
      if (plain(name)) viewed(undefined, name);
      else viewed(name ? String(name) : undefined, properties);
    },

    identify(id, more) {
      settle();
      if (plain(id)) [id, more] = [userId, id];
      const known = id === undefined || id === null || id === '' ? undefined : String(id);
      if (userId && known && known !== userId) traits = {};
      Object.assign(traits, plain(more));
      userId = known || userId;
      if (known) send('identify', { traits });
      else warn('identify() needs the id of a user');
    },

    group(id, more) {
      settle();
      if (id || id === 0) send('group', { groupId: String(id), traits: plain(more) });
      else warn('group() needs the id of a group');
    },

    reset() {
      settle();
      userId = undefined;
      traits = {};
      anonymousId = uuid();
    },

    consent(words) {
      ownChoice = words === undefined || words === null ? undefined : ownWords(words);
      decide();
    },
  };

  /** The page's own array, if any: a reference to it stays good. */
  const api = Array.isArray(before) ? before : {};
  const calls = Array.isArray(before) ? before.splice(0) : [];
  Object.keys(methods).forEach((name) => {
    api[name] = guard(methods[name]);
  });
  api.version = VERSION;
  api.push = (...more) => more.forEach((call) => call && methods[call[0]] && api[call[0]](...Array.from(call).slice(1)));
  window[globalName] = api;

  guard(() => {
    if (!key) warn('the script tag has no data-pipeline-key');
    if (consentOption && !READERS[consentKind] && !/^(granted|denied|auto|cookie|local)$/.test(consentKind)) {
      warn('data-consent="' + consentOption + '" is unknown: nothing is sent');
    }
    watchHistory();
    addEventListener('online', guard(() => {
      if (!imposed) failures = resumeAt = 0;
      pump();
    }));
    addEventListener('storage', guard((event) => {
      // A tab was left. One that fails itself lets others take over.
      if (!failures && String(event.key).startsWith(prefix) && /^\[0,/.test(event.newValue)) decide();
    }));
    document.addEventListener('visibilitychange', guard(() => {
      if (document.visibilityState === 'hidden') leave();
    }));
    addEventListener('pagehide', guard(() => {
      gone = true;
      leave();
    }));
    addEventListener('pageshow', guard((event) => {
      if (!event.persisted) return;
      // Back out of the browser's cache: a view as any other.
      gone = false;
      due = automatic;
      pump();
      save();
      decide();
      settle();
    }));

    if (calls.some((call) => call && call[0] === 'page')) due = false;
    decide();
    api.push(...calls);
    // With the title, and after the page's own first calls.
    const begin = () => setTimeout(guard(settle));
    if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', begin);
    else begin();
  })();
})();
