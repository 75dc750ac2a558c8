// Lets NNI wait 60 seconds for a tuner instead of 10: NNI 3.0 imports pandas and SciPy before it connects, which takes
// longer on a busy machine, and has no option for the time. Its node reads NODE_OPTIONS:
//
//     NODE_OPTIONS="--require $PWD/experiments/patience.js" nnictl create --config experiments/X.yml
"use strict";

const wait = global.setTimeout;

function setTimeout(done, delay, ...others) {
    const tuner = delay === 10000 && String(done).includes("Tuner did not connect");
    return wait(done, tuner ? 60000 : delay, ...others);
}

global.setTimeout = Object.defineProperties(setTimeout, Object.getOwnPropertyDescriptors(wait));
