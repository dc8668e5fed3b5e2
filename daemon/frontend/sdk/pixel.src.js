/*! TrackLayer, docs/pixel.md */
/*
 * The source of pixel.js, which is what pages load: `python -m scripts.pixel` makes it from this file.
 * At most 3,379 bytes there, so names of the wire stand here once, and what a page can do by itself is left to it.
 * ES2019, for the sake of older phones.
 */
(() => {
  const warn = (text) => console.warn('[tracklayer] ' + text);

  /** For all that the page or the browser calls: never throws. */
  const guard = (work) => (...args) => {
    try {
      return work(...args);
    } catch (error) {
      warn(error);
    }
  };

  guard(() => {
    const { dataset, src } =
      document.currentScript || document.querySelector('script[data-merchant]') || { dataset: {} };
    const { merchant } = dataset;
    // The page's own object, if any: references to it stay good.
    const api = (window.tracklayer = window.tracklayer || {});
    const on = addEventListener;
    if (api.version) return; // included twice

    /* ---- what the browser keeps; where it allows none, looking at it throws ---- */

    const kept = (name) => {
      try {
        return sessionStorage.getItem(name) || '';
      } catch (error) {
        return '';
      }
    };

    const keep = (name, value) => {
      try {
        sessionStorage[value ? 'setItem' : 'removeItem'](name, value);
      } catch (error) {
        // what is in memory counts
      }
    };

    const cookie = (name) => {
      try {
        return RegExp('(?:^|; )' + name + '=([^;]+)').exec(document.cookie)[1];
      } catch (error) {
        return '';
      }
    };

    let click = ''; // fb.1.<ms>.<fbclid>

    /** The click that led here: Meta's own cookie for it, else ours; else the click of an earlier visit. */
    const fbc = () => {
      const id = new URLSearchParams(location.search).get('fbclid');
      click = click || kept('_tl_fbc');
      if (id && !click.endsWith('.' + id)) keep('_tl_fbc', (click = 'fb.1.' + Date.now() + '.' + id));
      const theirs = cookie('_fbc');
      // The time has 13 digits until the year 2286.
      return click && !theirs.endsWith(click.slice(18)) ? click : theirs;
    };

    /* ---- the wire: one at a time, as beacons side by side may overtake each other ---- */

    const endpoint = merchant && new URL('/v1/browser/events', src || location).href;
    const waiting = [];
    let busy = 0;
    let leaving = false;

    const done = () => {
      clearTimeout(busy);
      busy = 0;
      pump();
    };

    const pump = guard(() => {
      while (waiting.length && navigator.onLine !== false && (leaving || !busy)) {
        if (!leaving) busy = setTimeout(done, 500);
        transmit(waiting.shift());
      }
      if (leaving) keep('_tl_queue', waiting.join('\n'));
    });

    const transmit = (body) => {
      try {
        if (!('debug' in dataset) && navigator.sendBeacon(endpoint, body)) return;
      } catch (error) {
        // there is none
      }
      post(body, true);
    };

    // Text needs no preflight. What is too large to outlive the page is refused, and sent once more without that.
    const post = (body, keepalive) =>
      fetch(endpoint, { method: 'POST', body, keepalive, credentials: 'omit' }).then(
        (reply) => {
          done();
          if (!reply.ok) reply.text().then((text) => warn(reply.status + ' ' + text), warn);
        },
        () => (keepalive ? post(body, false) : done())
      );

    /** The page may be gone the next moment: all that waits goes now, or stays for the tab's next page. */
    const leave = (event) => {
      leaving = event.type === 'pagehide' || document.hidden;
      pump();
    };

    /* ---- events ---- */

    let user = {};
    let consent = {};

    // The gateway refuses an event for one wrong type in it, and nobody sees a beacon's answer: what a page is likely
    // to get wrong is put right here.

    const number = (value) => (parseFloat(value) == value && value >= 0 ? +value : undefined);

    /** What has a place of its own in an event; undefined: it is not what belongs there. */
    const PLACES = {
      value: number,
      currency: (value) => (/^[a-z]{3}$/i.test(value) ? value : undefined),
      order_id: (value) => (/string|number/.test(typeof value) ? '' + value : undefined),
      items: (value) =>
        Array.isArray(value)
          ? value.map((item) => ({ ...item, price: number(item.price), quantity: number(item.quantity) }))
          : undefined,
      consent_state: (value) => value,
    };

    /** A copy, as the page may change its own; texts for numbers, such as a phone's. */
    const copy = (data) =>
      JSON.parse(JSON.stringify(data, (name, value) => (typeof value === 'number' ? '' + value : value)));

    /** The page's address, if it has one; a fragment counts where it is a route. */
    const here = () => location.host && location.href.replace(/#(?!!?\/).*/, '').slice(0, 8000);

    /** Now, or when the visitor comes to a page that was loaded ahead. */
    const later = (work) =>
      document.prerendering ? document.addEventListener('prerenderingchange', work) : work();

    const uuid = () =>
      '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, (digit) =>
        (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)))).toString(16)
      );

    const send = (event_id, event_name, custom_data) => {
      const event = {
        event_id,
        event_name,
        event_time: Math.floor(Date.now() / 1000),
        merchant_id: merchant,
        source: 'browser',
        event_source_url: here(),
        user_data: {
          ...user,
          browser_ids:
            consent.ad_storage === 'denied' ? undefined : { fbp: cookie('_fbp'), fbc: fbc(), ...user.browser_ids },
        },
        consent_state: consent,
        custom_data,
      };
      for (const name of Object.keys(PLACES)) {
        if (name in custom_data) {
          event[name] = PLACES[name](custom_data[name]);
          if (event[name] === undefined) warn(name + ' is not valid');
          else delete custom_data[name];
        }
      }
      // Half a character (of a cut text) is refused by the gateway.
      waiting.push(JSON.stringify(event).replace(/\\(\\|ud[89a-f]..)/g, (all, what) => (what === '\\' ? all : '\\ufffd')));
      if (waiting.length > 100) waiting.shift();
      pump();
    };

    api.track = (name, data) => {
      let id;
      guard(() => {
        const { event_id, ...custom_data } = typeof data === 'object' ? data || {} : {};
        id = '' + (event_id || uuid());
        if (!name) warn('track() needs a name');
        else if (merchant) later(guard(() => send(id, '' + name, custom_data)));
      })();
      return id;
    };

    api.identify = guard((data) => {
      user = { ...user, ...copy(data) };
    });

    api.consent = guard((state) => {
      consent = { ...consent, ...copy(state) };
    });

    /* ---- page views ---- */

    let viewed;
    const view = () => {
      if (viewed !== here()) {
        viewed = here();
        api.track('page_view');
      }
    };

    if (!merchant) {
      warn('missing data-merchant on script tag');
      return;
    }
    api.version = '1.0.0';

    const { pushState } = window.history || {};
    if (pushState) {
      history.pushState = function () {
        const result = pushState.apply(this, arguments);
        view();
        return result;
      };
    }
    on('popstate', view);
    on('pageshow', (event) => {
      leaving = false;
      if (event.persisted) {
        viewed = 0;
        view();
      }
    });
    on('pagehide', leave);
    on('visibilitychange', leave);
    on('online', () => {
      keep('_tl_queue');
      pump();
    });

    guard(() => {
      new PerformanceObserver((list) => {
        if (list.getEntriesByName(endpoint).some((entry) => entry.initiatorType === 'beacon')) done();
      }).observe({ entryTypes: ['resource'] });
    })();

    const play = guard((call) => {
      if (call[0] === 'track') view();
      api[call[0]](...[].slice.call(call, 1));
    });
    later(() => {
      // First what the visitor's last page could not send, being offline.
      waiting.push(...kept('_tl_queue').split('\n').filter((body) => body));
      keep('_tl_queue');
      const queue = (api.q = api.q || []);
      queue.splice(0).forEach(play);
      queue.push = play;
      view();
    });
  })();
})();
