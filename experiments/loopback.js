// Keeps NNI's server on this machine: NNI 3.0 listens on every interface, asks for no password, and has no option for
// either. Its node reads NODE_OPTIONS:
//
//     NODE_OPTIONS="--require $PWD/experiments/loopback.js" nnictl create --config experiments/X.yml
//
// For experiments on one machine. Trials on other machines have to reach the server.
"use strict";

const net = require("net");
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (where, ...others) {
    if (where !== null && typeof where === "object" && "port" in where) {
        return listen.call(this, { ...where, host: "127.0.0.1" }, ...others);
    }
    if (typeof where === "object" || typeof where === "function" || Number.isNaN(Number(where))) {
        return listen.call(this, where, ...others); // a path or a handle, which no network reaches
    }
    const rest = typeof others[0] === "string" ? others.slice(1) : others;
    return listen.call(this, where, "127.0.0.1", ...rest);
};
