// Lets newman call http://arch.homework on this machine without a line in /etc/hosts:
//   ARCH_HOMEWORK=127.0.0.1:3000 NODE_OPTIONS='--require ./postman/resolve.cjs' npx newman run ...
const http = require('node:http');

const [host, port] = process.env.ARCH_HOMEWORK.split(':');
const { createConnection } = http.Agent.prototype;
http.Agent.prototype.createConnection = function (options, ...rest) {
  const here = options.host === 'arch.homework' ? { ...options, host, port } : options;
  return createConnection.call(this, here, ...rest);
};
